//! The Kinesis API as its real clients see it: boto3, and Amazon's SDK for Rust.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};
use linkspan_testkit::{Answer, Gateway, Setup};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use serde_json::Value;

const TOML: &str = "[streams]\nenabled = true\n";

/// An access key as it was printed.
struct AccessKey {
    id: String,
    secret: String,
}

fn setup(toml: &str) -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_linkspan"), toml)
}

/// Runs the program; gives what it printed.
fn linkspan(setup: &Setup, arguments: &[&str]) -> String {
    let output = setup.command(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn access_key(setup: &Setup, name: &str, scopes: &[&str]) -> AccessKey {
    let mut arguments = vec!["keys", "add", name, "--sigv4", "--output", "json"];
    arguments.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
    parsed(&linkspan(setup, &arguments))
}

fn parsed(printed: &str) -> AccessKey {
    let printed: Value = serde_json::from_str(printed).unwrap();
    let members: Vec<_> = printed.as_object().unwrap().keys().collect();
    assert_eq!(members, ["access_key_id", "secret_access_key"]);
    let text = |member: &str| printed[member].as_str().unwrap().to_owned();
    AccessKey {
        id: text("access_key_id"),
        secret: text("secret_access_key"),
    }
}

/// A scene of `client.py`, with the system's Python, whose boto3 is Debian's.
fn scene(name: &str, gateway: &str, key: &AccessKey) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams/kinesis/client.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).arg(name);
    with(&mut command, gateway, key);
    command
}

/// Tells a client where the gateway is, and its key; and nothing of this machine's own.
fn with<'c>(command: &'c mut Command, gateway: &str, key: &AccessKey) -> &'c mut Command {
    command
        .env("GATEWAY", gateway)
        .env("ACCESS_KEY_ID", &key.id)
        .env("SECRET_ACCESS_KEY", &key.secret)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("NO_PROXY", "*")
        .env_remove("AWS_PROFILE")
}

fn plays(command: &mut Command) -> String {
    let output = command.output().expect("python3 runs");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn rust_client(gateway: &Gateway, key: &AccessKey) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(&gateway.url)
        .credentials_provider(Credentials::new(&key.id, &key.secret, None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .http_client(http)
        .build();
    Client::from_conf(config)
}

#[test]
fn boto3_makes_fills_reads_and_changes_streams() {
    let setup = setup(TOML);
    let key = access_key(&setup, "ops", &["admin"]);
    let gateway = setup.serve();
    plays(&mut scene("everything", &gateway.url, &key));
    let log = gateway.log();
    assert!(log.contains("PutRecords"), "the log names the operation");
    for private in ["review 1", "customer", &key.secret] {
        assert!(!log.contains(private), "the log holds {private:?}");
    }
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn boto3_does_the_same_over_tls() {
    let setup = setup(&format!(
        "[server]\ntls = {{ cert = \"cert.pem\", key = \"key.pem\" }}\n{TOML}"
    ));
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // OpenSSL takes a certificate for its own issuer's where both have the same name.
    params
        .distinguished_name
        .push(DnType::CommonName, "an authority of this test");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let own = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let cert = params.signed_by(&own, &authority).unwrap();
    let write = |name: &str, pem: String| {
        let path = setup.folder().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    write("cert.pem", cert.pem());
    write("key.pem", own.serialize_pem());
    let trusted = write("ca.pem", authority.pem());
    let key = access_key(&setup, "ops", &["admin"]);
    let gateway = setup.serve();
    assert!(gateway.url.starts_with("https://"));
    plays(scene("everything", &gateway.url, &key).env("CA", trusted));
}

#[test]
fn whoever_has_no_key_for_it_is_refused_by_the_apis_own_errors() {
    let setup = setup(TOML);
    let admin = access_key(&setup, "ops", &["admin"]);
    let writer = access_key(&setup, "shop", &["invoke:reviews"]);
    let reader = access_key(&setup, "insight", &["read:reviews"]);
    let gateway = setup.serve();
    plays(
        scene("outsiders", &gateway.url, &admin)
            .env("BEARER", setup.key("crm", &["admin"]))
            .env("WRITER_ID", &writer.id)
            .env("WRITER_SECRET", &writer.secret)
            .env("READER_ID", &reader.id)
            .env("READER_SECRET", &reader.secret),
    );
    let log = gateway.log();
    assert!(!log.contains(&writer.secret) && !log.contains("good"));
}

#[tokio::test(flavor = "multi_thread")]
async fn access_keys_are_listed_rotated_revoked_and_no_bearer_keys() {
    let setup = setup(TOML);
    let bearer = setup.key("ops", &["admin"]);
    let old = access_key(&setup, "ops", &["admin"]);
    assert!(old.id.starts_with("LSKA") && old.id.len() == 20 && old.secret.len() == 40);
    let gateway = setup.serve();
    plays(&mut scene("let_in", &gateway.url, &old));

    let shown = gateway.client(&bearer).get("/v1/keys").await;
    assert!(!shown.body.contains(&old.secret));
    let shown: Value = serde_json::from_str(&shown.body).unwrap();
    let kinds = shown["keys"].as_array().unwrap().iter();
    let kinds: Vec<_> = kinds.map(|key| key["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["bearer", "sigv4"]);
    let listed = linkspan(&setup, &["keys", "list"]);
    assert!(listed.contains(&old.id) && listed.contains("sigv4") && !listed.contains(&old.secret));
    for shown in [
        format!("lsk_{}_{}", old.id, old.secret),
        format!("lsk_{}_", old.id),
        old.secret.clone(),
    ] {
        let answer = gateway.client(&shown).get("/v1/keys").await;
        assert_eq!(answer.status, 401);
    }

    // The name's other key stays as it is.
    let rotate = ["keys", "rotate", "ops", "--sigv4", "--output", "json"];
    let new = parsed(&linkspan(
        &setup,
        &[&rotate[..], &["--overlap", "1h"]].concat(),
    ));
    plays(&mut scene("let_in", &gateway.url, &old));
    plays(&mut scene("let_in", &gateway.url, &new));
    let newest = parsed(&linkspan(
        &setup,
        &[&rotate[..], &["--overlap", "0s"]].concat(),
    ));
    for over in [&old, &new] {
        plays(&mut scene("shut_out", &gateway.url, over));
    }
    plays(&mut scene("let_in", &gateway.url, &newest));
    linkspan(&setup, &["keys", "revoke", &newest.id]);
    plays(&mut scene("shut_out", &gateway.url, &newest));
    assert_eq!(gateway.client(&bearer).get("/v1/keys").await.status, 200);

    let slow = linkspan(
        &setup,
        &[
            "keys", "add", "slow", "--sigv4", "--rate", "1", "--scope", "admin", "--output", "json",
        ],
    );
    plays(&mut scene("too_fast", &gateway.url, &parsed(&slow)));
    let printed = linkspan(
        &setup,
        &[
            "keys", "add", "shop", "--scope", "invoke", "--output", "json",
        ],
    );
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let id = printed["id"].as_str().unwrap();
    assert!(printed["key"].as_str().unwrap().contains(id));
}

#[tokio::test(flavor = "multi_thread")]
async fn amazons_sdk_for_rust_writes_and_reads() {
    let setup = setup(TOML);
    let key = access_key(&setup, "ops", &["admin"]);
    let gateway = setup.serve();
    let client = rust_client(&gateway, &key);
    let create = client.create_stream().stream_name("reviews").shard_count(1);
    create.send().await.unwrap();
    let entries = (0..300_u32).map(|n| {
        PutRecordsRequestEntry::builder()
            .data(Blob::new(n.to_be_bytes()))
            .partition_key(n.to_string())
            .build()
            .unwrap()
    });
    let arn = "arn:aws:kinesis:eu-west-1:000000000000:stream/reviews";
    let put = client.put_records().stream_arn(arn);
    let put = put.set_records(Some(entries.collect())).send().await;
    assert_eq!(put.unwrap().failed_record_count(), Some(0));
    let iterator = client.get_shard_iterator().stream_name("reviews");
    let iterator = iterator.shard_id("shardId-000000000000");
    let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon);
    let iterator = iterator.send().await.unwrap();
    let records = client.get_records();
    let records = records.set_shard_iterator(iterator.shard_iterator);
    let records = records.send().await.unwrap();
    let numbers = records.records().iter();
    let numbers: Vec<_> = numbers
        .map(|record| u32::from_be_bytes(record.data().as_ref().try_into().unwrap()))
        .collect();
    assert_eq!(numbers, (0..300).collect::<Vec<_>>());

    let missing = client.describe_stream().stream_name("nowhere").send().await;
    assert!(
        missing
            .unwrap_err()
            .into_service_error()
            .is_resource_not_found_exception()
    );
    let again = client.create_stream().stream_name("reviews").shard_count(1);
    assert!(
        again
            .send()
            .await
            .unwrap_err()
            .into_service_error()
            .is_resource_in_use_exception()
    );
    let stranger = AccessKey {
        id: key.id.clone(),
        secret: "x".repeat(40),
    };
    let refused = rust_client(&gateway, &stranger).list_streams().send().await;
    let Err(SdkError::ServiceError(refused)) = refused else {
        panic!("a wrong secret was taken: {refused:?}");
    };
    assert_eq!(
        refused.err().meta().code(),
        Some("InvalidSignatureException")
    );
    assert_eq!(refused.raw().status().as_u16(), 400);
}

#[test]
fn amazons_sdk_for_java_writes_and_reads_in_cbor() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().unwrap();
    let fetched = plays(&mut Command::new(root.join("tools/aws-java.sh")));
    let libraries = root.join(fetched.trim()).join("libs/*");
    let setup = setup(TOML);
    let key = access_key(&setup, "ops", &["admin"]);
    let gateway = setup.serve();
    let mut java = Command::new("java");
    java.args(["-Xmx256m", "-XX:+UseSerialGC", "-cp"])
        .arg(libraries)
        .arg("groovy.ui.GroovyMain")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams/kinesis/client.groovy"));
    plays(with(&mut java, &gateway.url, &key));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_is_no_call_of_the_api_is_told_what_there_is() {
    let setup = setup("");
    let key = access_key(&setup, "ops", &["admin"]);
    let gateway = setup.serve();
    let client = gateway.client(&setup.key("crm", &["admin"]));
    let answer = client.post("/").await;
    assert_eq!(answer.code(), "not-found");
    assert!(answer.body.contains("X-Amz-Target"), "{}", answer.body);
    let page = client.get("/").await;
    assert!(page.status == 200 && page.body.contains("<!doctype html>"));
    // A gateway without streams says how it gets some.
    let refused = rust_client(&gateway, &key).list_streams().send().await;
    let refused = refused.unwrap_err().into_service_error();
    assert_eq!(refused.meta().code(), Some("UnknownOperationException"));
    assert!(refused.meta().message().unwrap().contains("[streams]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authentication_nothing_is_signed_and_no_page_calls() {
    let setup = setup(&format!("[server]\nauth = \"none\"\n{TOML}"));
    let gateway = setup.serve();
    let client = gateway.client("");
    let call = |operation: &str| {
        let target = format!("Kinesis_20131202.{operation}");
        let request = client.request(reqwest::Method::POST, "/");
        let request = request.header("content-type", "application/x-amz-json-1.1");
        request.header("x-amz-target", target).body("{}")
    };
    let listed = Answer::of(call("ListStreams")).await;
    assert_eq!(listed.status, 200, "{}", listed.body);
    assert_eq!(
        listed.headers["x-amzn-requestid"],
        listed.headers["x-request-id"]
    );
    let foreign =
        Answer::of(call("ListStreams").header("origin", "https://elsewhere.example")).await;
    assert_eq!(foreign.headers["x-amzn-errortype"], "AccessDeniedException");
    let rebound = Answer::of(call("ListStreams").header("host", "elsewhere.example")).await;
    assert_eq!(rebound.headers["x-amzn-errortype"], "AccessDeniedException");
    let unknown = Answer::of(call("Forget")).await;
    assert_eq!(unknown.status, 400);
    assert_eq!(
        unknown.headers["content-type"],
        "application/x-amz-json-1.1"
    );
    let unknown: Value = serde_json::from_str(&unknown.body).unwrap();
    assert_eq!(unknown["__type"], "UnknownOperationException");
    let key = AccessKey {
        id: "any".to_owned(),
        secret: "any".to_owned(),
    };
    plays(&mut scene("let_in", &gateway.url, &key));
}

#[test]
fn what_was_acknowledged_outlives_a_killed_gateway() {
    let setup = setup(TOML);
    let key = access_key(&setup, "ops", &["admin"]);
    let mut acknowledged: Vec<(String, String, u128)> = Vec::new();
    for round in 0..3 {
        let gateway = setup.serve();
        if round == 0 {
            plays(&mut scene("make", &gateway.url, &key));
        }
        let mut writer = scene("put_until_killed", &gateway.url, &key);
        let mut writer = writer.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        for line in lines.by_ref().take(30) {
            acknowledged.extend(records(&line.unwrap()));
        }
        gateway.kill();
        // It goes on until it notices; each line is an answer that it got.
        for line in lines {
            acknowledged.extend(records(&line.unwrap()));
        }
        assert!(writer.wait().unwrap().success());
    }
    let gateway = setup.serve();
    let kept = plays(&mut scene("all_records", &gateway.url, &key));
    let kept: Vec<_> = kept.lines().map(record).collect();
    assert!(acknowledged.len() >= 3 * 30 * 20);
    let there: HashSet<_> = kept.iter().collect();
    for record in &acknowledged {
        assert!(
            there.contains(record),
            "{record:?} was acknowledged and is gone"
        );
    }
    // Over all three lives, in the order in which they stand.
    let mut last: HashMap<&str, u128> = HashMap::new();
    for (_, shard, number) in &kept {
        let before = last.insert(shard, *number);
        assert!(before.is_none_or(|before| before < *number), "{number}");
    }
    assert_eq!(last.len(), 2);
}

fn records(line: &str) -> Vec<(String, String, u128)> {
    let records: Vec<Value> = serde_json::from_str(line).unwrap();
    records.iter().map(whole).collect()
}

fn record(line: &str) -> (String, String, u128) {
    whole(&serde_json::from_str(line).unwrap())
}

/// Data, shard and sequence number.
fn whole(record: &Value) -> (String, String, u128) {
    let text = |nth: usize| record[nth].as_str().unwrap().to_owned();
    (text(0), text(1), text(2).parse().unwrap())
}
