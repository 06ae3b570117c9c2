// Amazon's SDK for Java 2, which speaks CBOR, over TLS or not: makes a stream, fills and reads it, and meets errors.
// The environment says where the gateway is and with which keys; what is not as it should be ends the script with an exception.

import java.time.Duration
import java.time.Instant
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider
import software.amazon.awssdk.core.SdkBytes
import software.amazon.awssdk.core.interceptor.Context
import software.amazon.awssdk.core.interceptor.ExecutionAttributes
import software.amazon.awssdk.core.interceptor.ExecutionInterceptor
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient
import software.amazon.awssdk.regions.Region
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient
import software.amazon.awssdk.services.kinesis.KinesisClient
import software.amazon.awssdk.services.kinesis.model.*

// Both ways, and errors too.
class InCbor implements ExecutionInterceptor {
    void afterTransmission(Context.AfterTransmission context, ExecutionAttributes attributes) {
        for (message in [context.httpRequest(), context.httpResponse()]) {
            assert message.firstMatchingHeader("Content-Type").get() == "application/x-amz-cbor-1.1"
        }
    }
}

def of = { builder, String secret ->
    def credentials = AwsBasicCredentials.create(System.getenv("ACCESS_KEY_ID"), secret)
    builder
        .endpointOverride(URI.create(System.getenv("GATEWAY")))
        .region(Region.EU_CENTRAL_1)
        .credentialsProvider(StaticCredentialsProvider.create(credentials))
        .overrideConfiguration { it.addExecutionInterceptor(new InCbor()) }
}
def client = { String secret ->
    of(KinesisClient.builder(), secret)
        .httpClient(UrlConnectionHttpClient.builder().socketTimeout(Duration.ofSeconds(120)).build())
        .build()
}
def kinesis = client(System.getenv("SECRET_ACCESS_KEY"))
def refused = { Class<?> kind, Closure<?> call ->
    try {
        call()
    } catch (KinesisException error) {
        assert kind.isInstance(error) : error
        assert error.requestId() : error
        return error.awsErrorDetails()
    }
    throw new AssertionError("${kind.simpleName} was expected" as Object)
}

kinesis.createStream { it.streamName("java").shardCount(1) }
def description = kinesis.describeStream { it.streamName("java") }.streamDescription()
assert Duration.between(description.streamCreationTimestamp(), Instant.now()).abs() < Duration.ofMinutes(10)

byte[] bytes = (0..255).collect { (byte) it } as byte[]
def entries = (0..<100).collect { n ->
    PutRecordsRequestEntry.builder().data(SdkBytes.fromByteArray(bytes)).partitionKey("key " + n).build()
}
def put = kinesis.putRecords { it.streamName("java").records(entries) }
assert put.failedRecordCount() == 0 && put.records().size() == 100

def records = { start ->
    def iterator = kinesis.getShardIterator { start(it.streamName("java").shardId("shardId-000000000000")) }
    kinesis.getRecords { it.shardIterator(iterator.shardIterator()) }.records()
}
def all = records { it.shardIteratorType(ShardIteratorType.TRIM_HORIZON) }
assert all*.partitionKey() == (0..<100).collect { "key " + it }
assert all.every { Arrays.equals(it.data().asByteArray(), bytes) }
assert all*.sequenceNumber() == put.records()*.sequenceNumber()
assert Duration.between(all[0].approximateArrivalTimestamp(), Instant.now()).abs() < Duration.ofMinutes(10)
def since = records { it.shardIteratorType(ShardIteratorType.AT_TIMESTAMP).timestamp(description.streamCreationTimestamp()) }
assert since.size() == 100

refused(ResourceNotFoundException) { kinesis.describeStream { it.streamName("nowhere") } }
refused(ResourceInUseException) { kinesis.createStream { it.streamName("java").shardCount(1) } }
def unknown = refused(KinesisException) { kinesis.describeLimits { } }
assert unknown.errorCode() == "UnknownOperationException" : unknown
def wrong = refused(KinesisException) { client("x" * 40).listStreams { } }
assert wrong.errorCode() == "InvalidSignatureException" && wrong.errorMessage() : wrong

// The asynchronous client speaks HTTP/2.
def async = of(KinesisAsyncClient.builder(), System.getenv("SECRET_ACCESS_KEY")).build()
def puts = (0..<50).collect { n ->
    async.putRecord { it.streamName("java").partitionKey("async").data(SdkBytes.fromUtf8String("async " + n)) }
}
assert puts*.get()*.sequenceNumber().toSet().size() == 50
assert async.describeStreamSummary { it.streamName("java") }.get().streamDescriptionSummary().openShardCount() == 1
async.close()
kinesis.close()
