"""A real client of the Kinesis API, boto3: `client.py SCENE`. The environment says where the gateway is and with which keys.

Every scene asserts what it sees; the test that runs it looks at the exit status.
"""

import datetime
import json
import os
import sys
import time
import types
import unittest.mock

import boto3
import botocore.config
import botocore.exceptions

HALF = 2**127
WHOLE = 2**128


def client(access_key_id=None, secret=None, retries=0):
    return boto3.client(
        "kinesis",
        region_name="eu-central-1",
        endpoint_url=os.environ["GATEWAY"],
        verify=os.environ.get("CA"),
        aws_access_key_id=access_key_id or os.environ["ACCESS_KEY_ID"],
        aws_secret_access_key=secret or os.environ["SECRET_ACCESS_KEY"],
        config=botocore.config.Config(retries={"max_attempts": retries}, connect_timeout=60, read_timeout=120),
    )


def refused(code, call, **arguments):
    """The call is refused with that error; gives its message."""
    try:
        answer = call(**arguments)
    except botocore.exceptions.ClientError as error:
        told = error.response
        assert told["Error"]["Code"] == code, (code, told)
        assert told["Error"]["Message"], told
        assert told["ResponseMetadata"]["RequestId"], told
        return told["Error"]["Message"]
    raise AssertionError(f"{code} was expected: {answer}")


def read(kinesis, stream, shard, **start):
    """All records of a shard from a place on, to its end as it is now."""
    start = start or {"ShardIteratorType": "TRIM_HORIZON"}
    iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, **start)["ShardIterator"]
    records = []
    while iterator:
        answer = kinesis.get_records(ShardIterator=iterator, Limit=300)
        records += answer["Records"]
        if not answer["Records"] and answer["MillisBehindLatest"] == 0:
            break
        iterator = answer.get("NextShardIterator")
    return records


def everything():
    kinesis = client()
    name = "everything"
    kinesis.create_stream(StreamName=name, ShardCount=2)
    kinesis.get_waiter("stream_exists").wait(StreamName=name)
    described = kinesis.describe_stream(StreamName=name)["StreamDescription"]
    assert described["StreamARN"] == f"arn:aws:kinesis:eu-central-1:000000000000:stream/{name}", described
    assert [shard["ShardId"] for shard in described["Shards"]] == ["shardId-000000000000", "shardId-000000000001"]
    assert abs(time.time() - described["StreamCreationTimestamp"].timestamp()) < 600
    low, high = (shard["ShardId"] for shard in described["Shards"])

    before = datetime.datetime.now(datetime.timezone.utc)
    one = kinesis.put_record(StreamName=name, Data=b"\x00first\xff", PartitionKey="a", ExplicitHashKey="0")
    assert one["ShardId"] == low
    many = kinesis.put_records(
        StreamName=name,
        Records=[
            {"Data": f"review {n}".encode(), "PartitionKey": f"customer {n % 7}", "ExplicitHashKey": str(n % 2 * HALF)}
            for n in range(500)
        ],
    )
    assert many["FailedRecordCount"] == 0
    assert [record["ShardId"] for record in many["Records"]] == [low, high] * 250
    numbers = [int(record["SequenceNumber"]) for record in many["Records"] if record["ShardId"] == low]
    assert numbers == sorted(set(numbers)) and int(one["SequenceNumber"]) < numbers[0]

    records = read(kinesis, name, low)
    assert [record["Data"] for record in records] == [b"\x00first\xff"] + [b"review %d" % n for n in range(0, 500, 2)]
    assert records[0]["PartitionKey"] == "a" and records[0]["SequenceNumber"] == one["SequenceNumber"]
    assert abs(time.time() - records[0]["ApproximateArrivalTimestamp"].timestamp()) < 600
    # Every place from which reading begins.
    third = records[2]["SequenceNumber"]
    at = {"StartingSequenceNumber": third}
    assert read(kinesis, name, low, ShardIteratorType="AT_SEQUENCE_NUMBER", **at) == records[2:]
    assert read(kinesis, name, low, ShardIteratorType="AFTER_SEQUENCE_NUMBER", **at) == records[3:]
    assert read(kinesis, name, low, ShardIteratorType="AT_TIMESTAMP", Timestamp=before) == records
    latest = kinesis.get_shard_iterator(StreamName=name, ShardId=low, ShardIteratorType="LATEST")["ShardIterator"]
    kinesis.put_record(StreamName=name, Data=b"late", PartitionKey="a", ExplicitHashKey="1")
    assert [record["Data"] for record in kinesis.get_records(ShardIterator=latest)["Records"]] == [b"late"]

    # A shard is split: what it holds is read to its end, then its children's.
    kinesis.split_shard(StreamName=name, ShardToSplit=low, NewStartingHashKey=str(HALF // 2))
    shards = kinesis.list_shards(StreamName=name)["Shards"]
    children = [shard["ShardId"] for shard in shards if shard.get("ParentShardId") == low]
    assert len(children) == 2, shards
    assert len(read(kinesis, name, low)) == 252
    kinesis.merge_shards(StreamName=name, ShardToMerge=children[1], AdjacentShardToMerge=high)
    summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    assert summary["OpenShardCount"] == 2, summary
    last = kinesis.put_record(StreamName=name, Data=b"end", PartitionKey="a", ExplicitHashKey=str(WHOLE - 1))
    assert last["ShardId"] not in (low, high, *children)
    page = kinesis.list_shards(StreamName=name, MaxResults=2)
    found = page["Shards"]
    while "NextToken" in page:
        page = kinesis.list_shards(NextToken=page["NextToken"], MaxResults=2)
        assert 0 < len(page["Shards"]) <= 2
        found += page["Shards"]
    assert found == kinesis.list_shards(StreamName=name)["Shards"] and len(found) == 5, found

    kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=48)
    kinesis.decrease_stream_retention_period(StreamName=name, RetentionPeriodHours=36)
    assert kinesis.describe_stream(StreamName=name)["StreamDescription"]["RetentionPeriodHours"] == 36
    kinesis.add_tags_to_stream(StreamName=name, Tags={"team": "marketing", "cost": "42"})
    kinesis.remove_tags_from_stream(StreamName=name, TagKeys=["cost"])
    assert kinesis.list_tags_for_stream(StreamName=name)["Tags"] == [{"Key": "team", "Value": "marketing"}]
    for n in range(5):
        kinesis.create_stream(StreamName=f"one-of-{n}", StreamModeDetails={"StreamMode": "PROVISIONED"}, ShardCount=1)
    pages = list(kinesis.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 2}))
    listed = [stream for page in pages for stream in page["StreamNames"]]
    assert len(pages) == 3 and listed == [name] + [f"one-of-{n}" for n in range(5)], pages

    # The errors of the API, each by its own name.
    refused("ResourceNotFoundException", kinesis.describe_stream, StreamName="nowhere")
    refused("ResourceInUseException", kinesis.create_stream, StreamName=name, ShardCount=1)
    refused("LimitExceededException", kinesis.create_stream, StreamName="large", ShardCount=5000)
    refused("InvalidArgumentException", kinesis.get_records, ShardIterator="none")
    refused("InvalidArgumentException", kinesis.increase_stream_retention_period, StreamName=name, RetentionPeriodHours=9000)
    refused("ValidationException", kinesis.put_record, StreamName=name, Data=b"x", PartitionKey="k" * 257)
    refused("ResourceInUseException", kinesis.split_shard, StreamName=name, ShardToSplit=low, NewStartingHashKey="1")
    unknown = refused("UnknownOperationException", kinesis.register_stream_consumer, StreamARN=described["StreamARN"], ConsumerName="c")
    assert "RegisterStreamConsumer" in unknown, unknown
    large = [{"Data": b"x" * (1 << 20), "PartitionKey": "k"}] * 11
    refused("InvalidArgumentException", kinesis.put_records, StreamName=name, Records=large)
    huge = [{"Data": b"x" * (1 << 20), "PartitionKey": "k"}] * 13
    told = refused("InvalidArgumentException", kinesis.put_records, StreamName=name, Records=huge)
    assert "fewer records" in told, told

    kinesis.delete_stream(StreamName=name)
    kinesis.get_waiter("stream_not_exists").wait(StreamName=name)
    for n in range(5):
        kinesis.delete_stream(StreamName=f"one-of-{n}")


def outsiders():
    """Whoever has no key that holds, and whoever may do something else."""
    name = "reviews"
    kinesis = client()
    kinesis.create_stream(StreamName=name, ShardCount=1)
    kinesis.create_stream(StreamName="salaries", ShardCount=1)
    record = {"Data": b"good", "PartitionKey": "a"}

    own = os.environ["ACCESS_KEY_ID"]
    refused("InvalidSignatureException", client(secret="x" * 40).put_record, StreamName=name, **record)
    # Before the operation and its arguments are looked at.
    refused("InvalidSignatureException", client(secret="x" * 40).register_stream_consumer, StreamARN="arn:aws:x", ConsumerName="c")
    refused("UnrecognizedClientException", client(access_key_id="LSKA" + "A" * 16).list_streams)
    bearer = os.environ["BEARER"]
    _, bearer_id, bearer_secret = bearer.split("_", 2)
    for id, secret in [(bearer_id, bearer_secret), (bearer_id, bearer), (bearer, bearer_secret)]:
        refused("UnrecognizedClientException", client(id, secret).list_streams)

    class Tomorrow(datetime.datetime):
        @classmethod
        def utcnow(cls):
            return datetime.datetime.utcnow() + datetime.timedelta(days=1)

    with unittest.mock.patch("botocore.auth.datetime", types.SimpleNamespace(datetime=Tomorrow)):
        told = refused("InvalidSignatureException", client().put_record, StreamName=name, **record)
        assert "clock" in told, told

    writer = client(os.environ["WRITER_ID"], os.environ["WRITER_SECRET"])
    assert writer.put_record(StreamName=name, **record)["SequenceNumber"]
    refused("AccessDeniedException", writer.put_record, StreamName="salaries", **record)
    # Also where there is no such stream: who may not use it does not learn that.
    refused("AccessDeniedException", writer.put_record, StreamName="nowhere", **record)
    refused("AccessDeniedException", writer.list_streams)
    refused("AccessDeniedException", writer.get_shard_iterator, StreamName=name, ShardId="shardId-000000000000", ShardIteratorType="LATEST")
    refused("AccessDeniedException", writer.delete_stream, StreamName=name)
    refused("AccessDeniedException", writer.create_stream, StreamName="mine", ShardCount=1)

    reader = client(os.environ["READER_ID"], os.environ["READER_SECRET"])
    assert [record["Data"] for record in read(reader, name, "shardId-000000000000")] == [b"good"]
    refused("AccessDeniedException", reader.put_record, StreamName=name, **record)
    assert own != os.environ["READER_ID"]


def shut_out():
    refused("UnrecognizedClientException", client().list_streams)


def let_in():
    client().list_streams()


def too_fast():
    """A key that was made with a rate of one request a second."""
    kinesis = client()
    codes = set()
    for call, arguments in [
        (kinesis.list_streams, {}),
        (kinesis.put_record, {"StreamName": "nowhere", "Data": b"x", "PartitionKey": "a"}),
    ] * 10:
        try:
            call(**arguments)
        except botocore.exceptions.ClientError as error:
            codes.add(error.response["Error"]["Code"])
    assert codes >= {"LimitExceededException", "ProvisionedThroughputExceededException"}, codes


def put_until_killed():
    """Puts records for as long as somebody is there, and tells what was acknowledged, a line a batch."""
    kinesis = client()
    for batch in range(1_000_000):
        data = [f"{batch}.{n}" for n in range(20)]
        records = [{"Data": text.encode(), "PartitionKey": text} for text in data]
        try:
            answer = kinesis.put_records(StreamName="killed", Records=records)
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            break
        acknowledged = [
            [text, record["ShardId"], record["SequenceNumber"]]
            for text, record in zip(data, answer["Records"])
            if "SequenceNumber" in record
        ]
        print(json.dumps(acknowledged), flush=True)


def all_records():
    """Tells every record of a stream in the order of its shard."""
    kinesis = client()
    for shard in kinesis.list_shards(StreamName="killed")["Shards"]:
        for record in read(kinesis, "killed", shard["ShardId"]):
            print(json.dumps([record["Data"].decode(), shard["ShardId"], record["SequenceNumber"]]))


def make():
    client().create_stream(StreamName="killed", ShardCount=2)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
