"""One boto3 client that puts records for a while: PutRecords of 500 records of 1 KiB, one call after the other.

Arguments: endpoint, stream, seconds. Credentials come from the environment. Prints {"records": N, "seconds": S}: the records that
were acknowledged. Records that failed are sent again, as producers do.
"""

import json
import os
import sys
import time

import boto3
from botocore.config import Config

endpoint, stream, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
client = boto3.client(
    "kinesis",
    endpoint_url=endpoint,
    region_name="us-east-1",
    config=Config(retries={"max_attempts": 0}),
)
records = [
    {"Data": os.urandom(1024), "PartitionKey": f"key-{number}"} for number in range(500)
]
acknowledged = 0
begin = time.perf_counter()
while time.perf_counter() - begin < seconds:
    answer = client.put_records(StreamName=stream, Records=records)
    acknowledged += len(records) - answer["FailedRecordCount"]
print(json.dumps({"records": acknowledged, "seconds": time.perf_counter() - begin}))
