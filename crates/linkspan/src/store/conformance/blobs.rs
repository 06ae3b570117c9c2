//! The cases that every store of blobs passes. Its tests give a [`BlobSite`] and list the cases with `blob_conformance!`.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use crate::store::upkeep::Health;
use crate::store::{BlobRef, Blobs, Content, Digest, ErrorKind, Intake};

/// Where a store of blobs lives. It outlives the store: opening it again is the restart of a gateway.
#[async_trait]
pub(in crate::store) trait BlobSite: Sync {
    /// Opens the store. What was opened before must have been dropped.
    async fn open(&self) -> Arc<dyn Blobs>;

    /// The file in which the store itself keeps a blob.
    fn file(&self, digest: Digest) -> PathBuf;
}

/// Makes a test of each case: `blob_conformance!(site)`, where `site` makes a new [`BlobSite`].
macro_rules! blob_conformance {
    ($site:expr; $($case:ident)+) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $case() {
            crate::store::conformance::blobs::$case(&$site).await;
        })+
    };
    ($site:expr) => {
        blob_conformance!($site;
            what_was_kept_reads_back_also_after_a_restart
            the_same_content_is_kept_once
            a_pinned_blob_is_not_removed_and_a_removed_one_can_be_kept_again
            a_blob_that_is_gone_already_is_no_error
            old_blobs_are_listed_in_order_page_by_page
            a_blob_that_is_missing_or_of_another_size_is_damaged
            a_large_body_comes_back_whole
            a_file_that_was_given_out_stays_while_it_is_used
        );
    };
}
pub(in crate::store) use blob_conformance;

/// Takes in a content of some size that begins with a mark, and keeps it.
pub(in crate::store) async fn keep(blobs: &Arc<dyn Blobs>, mark: &str, size: usize) -> BlobRef {
    let mut intake = Intake::new(Arc::clone(blobs), u64::MAX);
    for piece in content(mark, size).chunks(100_000) {
        intake.write(piece).await.unwrap();
    }
    let document = intake.finish_durable(None, None).await.unwrap();
    match document.content {
        Content::Blob(blob) => blob,
        Content::Inline(_) => panic!("{size} bytes are no blob"),
    }
}

fn content(mark: &str, size: usize) -> Vec<u8> {
    mark.bytes().cycle().take(size).collect()
}

async fn read(blobs: &Arc<dyn Blobs>, blob: &BlobRef) -> Vec<u8> {
    let mut content = Vec::new();
    let mut file = blobs.open(blob).await.unwrap();
    file.read_to_end(&mut content).unwrap();
    let local = blobs.local(blob).await.unwrap();
    assert!(std::fs::read(local.path()).unwrap() == content);
    content
}

/// The reference as it comes from a row.
fn unpinned(blob: &BlobRef) -> BlobRef {
    BlobRef {
        pin: None,
        ..blob.clone()
    }
}

/// Makes a blob look as if it was written so long ago.
fn make_old(site: &dyn BlobSite, blob: &BlobRef, seconds: u64) {
    let file = std::fs::File::options()
        .write(true)
        .open(site.file(blob.digest))
        .unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds))
        .unwrap();
}

pub(in crate::store) async fn what_was_kept_reads_back_also_after_a_restart(site: &dyn BlobSite) {
    let blobs = site.open().await;
    let blob = keep(&blobs, "a bill", 70_000).await;
    assert_eq!(
        (blob.size, blob.digest),
        (70_000, Digest::of(&content("a bill", 70_000)))
    );
    assert!(read(&blobs, &blob).await == content("a bill", 70_000));
    assert!(blobs.is_there(&blob).await.unwrap());
    let row = unpinned(&blob);
    drop((blobs, blob));
    let blobs = site.open().await;
    assert!(read(&blobs, &row).await == content("a bill", 70_000));
    assert_eq!(blobs.health(), Health::Accepting);
}

pub(in crate::store) async fn the_same_content_is_kept_once(site: &dyn BlobSite) {
    let blobs = site.open().await;
    let (one, two) = tokio::join!(
        keep(&blobs, "a bill", 70_000),
        keep(&blobs, "a bill", 70_000)
    );
    let three = keep(&blobs, "a bill", 70_000).await;
    assert!(one == two && two == three);
    let found = blobs.list(None, Duration::ZERO, 10).await.unwrap();
    assert_eq!(found, [one.digest]);
}

pub(in crate::store) async fn a_pinned_blob_is_not_removed_and_a_removed_one_can_be_kept_again(
    site: &dyn BlobSite,
) {
    let blobs = site.open().await;
    let blob = keep(&blobs, "a bill", 70_000).await;
    assert!(blobs.condemn(blob.digest).is_none());
    let row = unpinned(&blob);
    drop(blob);
    let condemned = blobs.condemn(row.digest).unwrap();
    // Kept while it is being removed: the keeper waits, and its blob is there.
    let again = tokio::spawn({
        let blobs = Arc::clone(&blobs);
        async move { keep(&blobs, "a bill", 70_000).await }
    });
    assert!(blobs.erase(condemned).await.unwrap());
    let blob = again.await.unwrap();
    assert!(site.file(blob.digest).exists());
    assert!(read(&blobs, &blob).await == content("a bill", 70_000));
}

pub(in crate::store) async fn a_blob_that_is_gone_already_is_no_error(site: &dyn BlobSite) {
    let blobs = site.open().await;
    let row = unpinned(&keep(&blobs, "a bill", 70_000).await);
    let condemned = blobs.condemn(row.digest).unwrap();
    assert!(blobs.erase(condemned).await.unwrap());
    assert!(!site.file(row.digest).exists() && !blobs.is_there(&row).await.unwrap());
    let condemned = blobs.condemn(row.digest).unwrap();
    assert!(!blobs.erase(condemned).await.unwrap());
    let other = unpinned(&keep(&blobs, "a letter", 70_000).await);
    std::fs::remove_file(site.file(other.digest)).unwrap();
    let condemned = blobs.condemn(other.digest).unwrap();
    assert!(!blobs.erase(condemned).await.unwrap());
}

pub(in crate::store) async fn old_blobs_are_listed_in_order_page_by_page(site: &dyn BlobSite) {
    let blobs = site.open().await;
    let mut old = Vec::new();
    for nth in 0..7 {
        let blob = keep(&blobs, &format!("page {nth} "), 70_000).await;
        if nth != 3 {
            make_old(site, &blob, 7200);
            old.push(blob.digest);
        }
    }
    old.sort_unstable();
    let hour = Duration::from_secs(3600);
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = blobs.list(after, hour, 2).await.unwrap();
        after = page.last().copied();
        if after.is_none() {
            break;
        }
        assert!(page.len() <= 2);
        pages.extend(page);
    }
    assert_eq!(pages, old);
    assert_eq!(
        blobs.list(None, Duration::ZERO, 100).await.unwrap().len(),
        7
    );
}

pub(in crate::store) async fn a_blob_that_is_missing_or_of_another_size_is_damaged(
    site: &dyn BlobSite,
) {
    let blobs = site.open().await;
    let cut = unpinned(&keep(&blobs, "a bill", 70_000).await);
    let gone = unpinned(&keep(&blobs, "a letter", 70_000).await);
    // A restart, so that nobody has a copy.
    drop(blobs);
    std::fs::write(site.file(cut.digest), "a bill").unwrap();
    std::fs::remove_file(site.file(gone.digest)).unwrap();
    let blobs = site.open().await;
    for blob in [&cut, &gone] {
        assert_eq!(blobs.open(blob).await.unwrap_err().kind, ErrorKind::Corrupt);
        assert_eq!(
            blobs.local(blob).await.unwrap_err().kind,
            ErrorKind::Corrupt
        );
    }
    assert_eq!(blobs.health(), Health::Accepting, "this poisons nothing");
    let again = keep(&blobs, "a bill", 70_000).await;
    assert!(
        read(&blobs, &again).await == content("a bill", 70_000),
        "mended"
    );
}

pub(in crate::store) async fn a_large_body_comes_back_whole(site: &dyn BlobSite) {
    let blobs = site.open().await;
    // More than two pieces of an upload, and no whole number of them.
    let size = 20_000_003;
    let row = unpinned(&keep(&blobs, "0123456789abcde", size).await);
    drop(blobs);
    let blobs = site.open().await;
    assert_eq!(
        Digest::of(&read(&blobs, &row).await),
        Digest::of(&content("0123456789abcde", size))
    );
}

pub(in crate::store) async fn a_file_that_was_given_out_stays_while_it_is_used(
    site: &dyn BlobSite,
) {
    let blobs = site.open().await;
    let blob = keep(&blobs, "a bill", 70_000).await;
    let one = blobs.local(&blob).await.unwrap();
    let two = blobs.local(&blob).await.unwrap();
    drop(one);
    assert!(std::fs::read(two.path()).unwrap() == content("a bill", 70_000));
    let mut open = blobs.open(&blob).await.unwrap();
    drop(two);
    let row = unpinned(&blob);
    drop(blob);
    let condemned = blobs.condemn(row.digest).unwrap();
    assert!(blobs.erase(condemned).await.unwrap());
    let mut read = Vec::new();
    open.read_to_end(&mut read).unwrap();
    assert!(
        read == content("a bill", 70_000),
        "what was opened stays readable"
    );
}
