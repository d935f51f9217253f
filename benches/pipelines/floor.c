// The floor of the side-by-side benchmark: what moving the records costs when nothing reads them as JSON.
//
// One thread takes batches off a group consumer, looks for a fixed run of bytes, and hands the hits to a producer. There
// is no delivery callback, and offsets are committed by the clock, so a crash may lose records: this is a measure of
// librdkafka, and not a program to be used.
#define _GNU_SOURCE
#include <rdkafka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 4096 };

static volatile sig_atomic_t stopping;

static void stop(int signal) {
    (void)signal;
    stopping = 1;
}

static const char *required(const char *name) {
    const char *value = getenv(name);
    if (!value) {
        fprintf(stderr, "floor: %s is not set\n", name);
        exit(2);
    }
    return value;
}

static rd_kafka_t *client(rd_kafka_type_t type, const char *const settings[][2], size_t count) {
    char error[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    for (size_t i = 0; i < count; i++) {
        if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], error, sizeof error) != RD_KAFKA_CONF_OK) {
            fprintf(stderr, "floor: %s\n", error);
            exit(2);
        }
    }
    rd_kafka_t *handle = rd_kafka_new(type, conf, error, sizeof error);
    if (!handle) {
        fprintf(stderr, "floor: %s\n", error);
        exit(1);
    }
    return handle;
}

int weir_bench_floor(void) {
    static const char needle[] = "\"reason\":\"BackOff\"";
    static rd_kafka_message_t *batch[BATCH];
    const char *servers = required("KAFKA_BOOTSTRAP_SERVERS");

    signal(SIGTERM, stop);
    signal(SIGINT, stop);

    const char *const consumer_settings[][2] = {
        {"bootstrap.servers", servers},
        {"group.id", required("GROUP")},
        {"auto.offset.reset", "earliest"},
        {"queued.max.messages.kbytes", "16384"},
    };
    const char *const producer_settings[][2] = {
        {"bootstrap.servers", servers},
        {"acks", "all"},
        {"enable.idempotence", "true"},
        {"linger.ms", "50"},
        {"queue.buffering.max.messages", "500000"},
    };
    rd_kafka_t *consumer = client(RD_KAFKA_CONSUMER, consumer_settings, sizeof consumer_settings / sizeof *consumer_settings);
    rd_kafka_t *producer = client(RD_KAFKA_PRODUCER, producer_settings, sizeof producer_settings / sizeof *producer_settings);
    rd_kafka_topic_t *out = rd_kafka_topic_new(producer, required("TOPIC_OUT"), NULL);

    rd_kafka_poll_set_consumer(consumer);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, required("TOPIC_IN"), RD_KAFKA_PARTITION_UA);
    rd_kafka_subscribe(consumer, topics);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(consumer);

    while (!stopping) {
        ssize_t taken = rd_kafka_consume_batch_queue(queue, 100, batch, BATCH);
        for (ssize_t i = 0; i < taken; i++) {
            rd_kafka_message_t *record = batch[i];
            if (!record->err && memmem(record->payload, record->len, needle, sizeof needle - 1)) {
                while (rd_kafka_produce(out, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, record->payload, record->len,
                                        record->key, record->key_len, NULL) == -1) {
                    if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
                        fprintf(stderr, "floor: %s\n", rd_kafka_err2str(rd_kafka_last_error()));
                        return 1;
                    }
                    rd_kafka_poll(producer, 10);
                }
            }
            rd_kafka_message_destroy(record);
        }
        rd_kafka_poll(producer, 0);
    }

    int unsent = rd_kafka_flush(producer, 10000) != RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_consumer_close(consumer);
    return unsent;
}
