//! MirrorMaker 2 in its dedicated mode, exactly once (KIP-618, KIP-710), set as its documentation says for throughput: transactions as
//! long as ours, large batches, as many tasks as partitions; memory as in its own start script.

use linkspan_testkit::{KafkaCluster, kafka};

use super::PARTITIONS;
use super::process::Process;

pub(crate) fn start(source: &KafkaCluster, target: &KafkaCluster) -> Process {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mm2.properties");
    let properties = format!(
        "clusters=source,target\n\
         source.bootstrap.servers={}\n\
         target.bootstrap.servers={}\n\
         source->target.enabled=true\n\
         target->source.enabled=false\n\
         source->target.topics=preloaded,paced\n\
         source->target.groups=none\n\
         source->target.emit.checkpoints.enabled=false\n\
         source->target.emit.heartbeats.enabled=false\n\
         source->target.sync.topic.acls.enabled=false\n\
         emit.heartbeats.enabled=false\n\
         emit.checkpoints.enabled=false\n\
         tasks.max={PARTITIONS}\n\
         replication.factor=1\n\
         offset-syncs.topic.replication.factor=1\n\
         heartbeats.topic.replication.factor=1\n\
         checkpoints.topic.replication.factor=1\n\
         offset.storage.replication.factor=1\n\
         status.storage.replication.factor=1\n\
         config.storage.replication.factor=1\n\
         offset.storage.partitions=1\n\
         status.storage.partitions=1\n\
         dedicated.mode.enable.internal.rest=true\n\
         listeners=http://127.0.0.1:0\n\
         exactly.once.source.support=enabled\n\
         source.exactly.once.source.support=enabled\n\
         target.exactly.once.source.support=enabled\n\
         source->target.transaction.boundary=interval\n\
         source->target.transaction.boundary.interval.ms=500\n\
         source.consumer.isolation.level=read_committed\n\
         source.consumer.auto.offset.reset=earliest\n\
         source.consumer.max.poll.records=5000\n\
         source.consumer.max.partition.fetch.bytes=4194304\n\
         target.producer.batch.size=1000000\n\
         target.producer.linger.ms=5\n",
        source.brokers(),
        target.brokers(),
    );
    std::fs::write(&file, properties).expect("the properties are written");
    let mut command = kafka::java("-Xmx2g");
    command
        .arg("-Xms256m")
        .arg("org.apache.kafka.connect.mirror.MirrorMaker")
        .arg(&file);
    Process::start_in(command, folder)
}
