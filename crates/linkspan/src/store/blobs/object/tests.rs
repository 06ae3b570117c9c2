//! What only a bucket can go through: being away, refusing, and being shared.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::testing::{BUCKET, Bucket};
use super::{ObjectBlobs, ObjectOptions};
use crate::logging;
use crate::store::blobs::BlobRef;
use crate::store::conformance::blobs::{BlobSite as _, keep};
use crate::store::upkeep::Health;
use crate::store::{Blobs, ErrorKind, Intake, IntakeError};

const AWAY: Health = Health::Refusing(ErrorKind::Unreachable);

async fn healthy(blobs: &Arc<dyn Blobs>) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while blobs.health() != Health::Accepting {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.expect("the store is found again by itself");
}

async fn spooled(blobs: &Arc<dyn Blobs>, mark: &str) -> super::super::Body {
    let mut intake = Intake::new(Arc::clone(blobs), u64::MAX);
    intake.write(mark.repeat(70_000).as_bytes()).await.unwrap();
    intake.finish().await.unwrap()
}

fn row(blob: &BlobRef) -> BlobRef {
    BlobRef {
        pin: None,
        ..blob.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_large_documents_are_refused_and_then_taken_again() {
    let mut bucket = Bucket::new();
    let blobs = bucket.open().await;
    let before = row(&keep(&blobs, "a bill", 70_000).await);
    bucket.server.stop();
    let body = spooled(&blobs, "x").await;
    let error = body.keep(None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert_eq!(blobs.health(), AWAY);
    // Known to be away: nobody waits. What is in memory or in the copies goes on.
    let at_once = std::time::Instant::now();
    let error = body.keep(None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(at_once.elapsed() < Duration::from_millis(500));
    assert!(blobs.local(&before).await.is_ok());
    assert_eq!(body.bytes().await.unwrap().len(), 70_000);
    bucket.server.start_again();
    healthy(&blobs).await;
    body.keep(None, None).await.unwrap();
    keep(&blobs, "a letter", 70_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_at_the_start_is_taken_when_it_comes() {
    let mut bucket = Bucket::new();
    bucket.server.stop();
    let blobs = bucket.open().await;
    assert_eq!(blobs.health(), AWAY);
    bucket.server.start_again();
    healthy(&blobs).await;
    keep(&blobs, "a bill", 70_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_told_at_the_start_and_not_shown() {
    let bucket = Bucket::new();
    let options = ObjectOptions {
        prefix: String::new(),
        cache: bucket.folder.path().join("cache"),
        cache_size: 1 << 30,
    };
    let mut settings = bucket.settings();
    let wrong = linkspan_model::config::Secret::new("sesame-secret".to_owned());
    settings.secret_access_key = Some(wrong);
    let refused = super::connect(BUCKET, &settings, None).unwrap();
    let error = ObjectBlobs::open(refused, options).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unusable);
    let told = logging::chain(&error);
    assert!(told.contains("SignatureDoesNotMatch"), "{told}");
    let secret = linkspan_testkit::S3Server::ACCESS_KEY_ID;
    assert!(!told.contains("sesame") && !told.contains(secret), "{told}");
    let shown = format!("{:?}", bucket.gateway("cache").await.unwrap());
    assert!(!shown.contains(secret), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_another_content_is_damaged_and_no_copy_of_it_is_kept() {
    let bucket = Bucket::new();
    let blobs = bucket.open().await;
    let blob = row(&keep(&blobs, "a bill", 70_000).await);
    drop(blobs);
    let file = bucket.file(blob.digest);
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[40_000] ^= 1;
    fs::write(&file, damaged).unwrap();
    let blobs = bucket.open().await;
    for _ in 0..2 {
        let error = blobs.local(&blob).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt);
    }
    assert_eq!(blobs.health(), Health::Accepting);
    fs::write(&file, &whole).unwrap();
    let local = blobs.local(&blob).await.unwrap();
    assert!(fs::read(local.path()).unwrap() == whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_file_that_changed_is_not_kept_under_its_first_content() {
    let bucket = Bucket::new();
    let blobs = bucket.open().await;
    let body = spooled(&blobs, "x").await;
    fs::write(body.path().unwrap(), "y".repeat(70_000)).unwrap();
    let error = body.keep(None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Io);
    assert!(!bucket.file(body.digest()).exists());
    let refused = Intake::new(Arc::clone(&blobs), u64::MAX)
        .write(&[0; 70_000])
        .await;
    assert!(
        matches!(refused, Err(IntakeError::Store(error)) if error.kind == ErrorKind::Io),
        "a disk that changes what was written is not trusted again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_by_many_at_once_is_fetched_once() {
    let bucket = Bucket::new();
    let writer: Arc<dyn Blobs> = Arc::new(bucket.gateway("writer").await.unwrap());
    let blob = row(&keep(&writer, "a bill", 10_000_000).await);
    let reader = bucket.gateway("reader").await.unwrap();
    let fetches = (0..16).map(|_| {
        let (reader, blob) = (reader.clone(), blob.clone());
        tokio::spawn(async move { reader.local(&blob).await.unwrap() })
    });
    let mut locals = Vec::new();
    for fetch in fetches.collect::<Vec<_>>() {
        locals.push(fetch.await.unwrap());
    }
    let node = |local: &super::LocalBlob| {
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(local.path()).unwrap())
    };
    assert!(locals.iter().all(|local| node(local) == node(&locals[0])));
    assert!(reader.shared.fetches.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_does_not_hide_that_another_gateway_removed_the_object() {
    let bucket = Bucket::new();
    let one: Arc<dyn Blobs> = Arc::new(bucket.gateway("one").await.unwrap());
    let two: Arc<dyn Blobs> = Arc::new(bucket.gateway("two").await.unwrap());
    let blob = keep(&one, "a bill", 70_000).await;
    assert!(one.is_there(&blob).await.unwrap() && two.is_there(&blob).await.unwrap());
    let condemned = two.condemn(blob.digest).expect("the pin is the other's");
    assert!(two.erase(condemned).await.unwrap());
    assert!(one.local(&blob).await.is_ok(), "the copy");
    assert!(!one.is_there(&blob).await.unwrap());
    let again = keep(&one, "a bill", 70_000).await;
    assert!(two.is_there(&again).await.unwrap());
}
