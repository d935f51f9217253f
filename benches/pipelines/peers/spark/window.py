#!/usr/bin/env python3
"""Spark Structured Streaming: Kafka -> count and sum by key in windows of one minute -> Kafka, local[2], everything there is.

RocksDB keeps its state, as is usual for many keys. Append mode puts a window out once the watermark has passed it; with
`availableNow` the window of the last record stays open.
"""
import glob
import os

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, count, from_json, struct, sum as total, timestamp_seconds, to_json, window

jars = ",".join(sorted(glob.glob(os.path.join(os.environ["SPARK_JARS"], "*.jar"))))
spark = (
    SparkSession.builder.master("local[2]").appName("window").config("spark.jars", jars)
    .config("spark.ui.enabled", "false").config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.memory", os.environ.get("SPARK_MEM", "4g")).config("spark.sql.shuffle.partitions", "2")
    .config("spark.sql.streaming.stateStore.providerClass", "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
boot = os.environ["BOOT"]
records = (
    spark.readStream.format("kafka").option("kafka.bootstrap.servers", boot).option("subscribe", os.environ["TOPIC_IN"])
    .option("startingOffsets", "earliest").option("maxOffsetsPerTrigger", "1000000").load()
)
event = records.select(from_json(col("value").cast("string"), "ts long, key string, bytes long").alias("e")).select("e.*")
event = event.withColumn("time", timestamp_seconds(col("ts")))
result = (
    event.withWatermark("time", "0 seconds").groupBy(window("time", "1 minute"), "key")
    .agg(count("*").alias("n"), total("bytes").alias("total"))
    .select(col("key"), to_json(struct(col("window.start").alias("window_start"), col("window.end").alias("window_end"), "key", "n", "total")).alias("value"))
)
query = (
    result.writeStream.format("kafka").option("kafka.bootstrap.servers", boot).option("topic", os.environ["TOPIC_OUT"])
    .option("checkpointLocation", os.environ["SPARK_CK"]).outputMode("append").trigger(availableNow=True).start()
)
query.awaitTermination()
spark.stop()
