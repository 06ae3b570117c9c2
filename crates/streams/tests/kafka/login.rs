//! A cluster that wants TLS and a login.

use std::path::{Path, PathBuf};
use std::process::Command;

use linkspan_streams::flow::Committer as _;
use linkspan_streams::kafka::{
    Cluster, ErrorKind, KafkaCommitter, KafkaSource, Mechanism, Sasl, Tls,
};
use linkspan_streams::{Source as _, SourceError};
use linkspan_testkit::KafkaCluster;

use crate::common::{self, Copier, records};

/// A certificate of the broker, as a key store of Java's and as PEM. Java brings the tool.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (store, pem) = (folder.join("broker.p12"), folder.join("broker.pem"));
    let keytool = |arguments: &[&str]| {
        let output = Command::new("keytool")
            .args(arguments)
            .args(["-alias", "broker", "-storepass", "changeit", "-keystore"])
            .arg(&store)
            .output()
            .expect("keytool runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        output.stdout
    };
    keytool(&[
        "-genkeypair",
        "-keyalg",
        "EC",
        "-dname",
        "CN=broker",
        "-ext",
        "san=ip:127.0.0.1",
        "-storetype",
        "PKCS12",
        "-validity",
        "2",
    ]);
    std::fs::write(&pem, keytool(&["-exportcert", "-rfc"])).expect("the certificate is written");
    (store, pem)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_a_password_open_the_cluster_and_a_wrong_one_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, ca) = certificate(folder.path());
    let store = store.display();
    let kafka = KafkaCluster::start(&[
        "listener.security.protocol.map=PLAINTEXT:SASL_SSL,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms=PLAIN",
        "sasl.mechanism.inter.broker.protocol=PLAIN",
        "listener.name.plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
         username=\"broker\" password=\"broker-word\" user_broker=\"broker-word\" user_mira=\"mira-word\";",
        &format!("ssl.keystore.location={store}"),
        "ssl.keystore.password=changeit",
        &format!("ssl.truststore.location={store}"),
        "ssl.truststore.password=changeit",
        "ssl.endpoint.identification.algorithm=",
    ]);
    let cluster = |ca: Option<&Path>, password: &str| {
        let tls = Tls {
            ca: ca.map(Path::to_owned),
            ..Tls::default()
        };
        let sasl = Sasl {
            mechanism: Mechanism::Plain,
            user: "mira".to_owned(),
            password: password.to_owned(),
        };
        Cluster::new(&kafka.brokers(), Some(tls), Some(sasl), Vec::new()).expect("a cluster")
    };
    let right = cluster(Some(&ca), "mira-word");
    let from = common::topic_with(&right.client(), "login", 1, &[]).await;
    let to = common::topic_with(&right.client(), "login-out", 1, &[]).await;
    let mut copier = Copier::new(&kafka, "login", "group", &from, &to);
    copier.cluster = right;

    // A record goes in by a transaction, comes by the source and goes out by the committer.
    let (mut source, mut committer) = copier.open().await.expect("source and committer");
    common::fill_with(&copier.cluster.client(), &from, 1, 0..1);
    let taken = records(&mut source).await;
    assert_eq!(taken.len(), 1);
    committer
        .commit(&common::passed_on(taken, &copier.to))
        .await
        .expect("a commit");

    for (wrong, what) in [
        (cluster(Some(&ca), "no-such-word"), "password"),
        (cluster(None, "mira-word"), "certificate"),
    ] {
        let mut settings = copier.source.clone();
        settings.group = common::unique("refused");
        let (mut source, group) = KafkaSource::open(&wrong, settings).expect("a source");
        let fault = loop {
            match source.next(true).await {
                Err(SourceError::Lasting(fault)) => break fault,
                Ok(event) => panic!("a wrong {what}: {event:?}"),
                Err(_) => {}
            }
        };
        assert!(fault.contains("refuses"), "a wrong {what}: {fault}");
        let mut settings = copier.committer.clone();
        settings.patience = std::time::Duration::from_secs(5);
        let fault = KafkaCommitter::open(&wrong, settings, group)
            .await
            .expect_err(what);
        assert!(
            matches!(fault.kind, ErrorKind::Refused | ErrorKind::Unreachable),
            "a wrong {what}: {fault}"
        );
        assert!(!format!("{fault:?}").contains("word"), "{fault:?}");
    }
}
