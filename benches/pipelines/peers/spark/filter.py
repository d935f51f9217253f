"""Spark Structured Streaming on two local cores: read the topic to its end, keep the back-offs, write them, stop."""

import glob
import os

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, from_json

BROKER = {"kafka.bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"]}

session = (
    SparkSession.builder.appName("weir-bench")
    .master("local[2]")
    .config("spark.jars", ",".join(sorted(glob.glob(os.environ["SPARK_JARS"] + "/*.jar"))))
    .config("spark.driver.memory", "2g")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)
session.sparkContext.setLogLevel("ERROR")

events = (
    session.readStream.format("kafka")
    .options(**BROKER, subscribe=os.environ["TOPIC_IN"], startingOffsets="earliest")
    .load()
    .select(col("value").cast("string").alias("value"))
)
kept = events.where(from_json("value", "reason string").reason == "BackOff")
(
    kept.writeStream.format("kafka")
    .options(**BROKER, topic=os.environ["TOPIC_OUT"], checkpointLocation=os.path.abspath("checkpoint"))
    .trigger(availableNow=True)
    .start()
    .awaitTermination()
)
