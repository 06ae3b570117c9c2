//! Sessions, and what all gateways on a store agree on.

use super::{Site, at};
use crate::store::{Retention, SessionRecord};

fn session(hash: u8, expires: i64) -> SessionRecord {
    SessionRecord {
        hash: [hash; 32],
        data: format!("{{\"name\":\"clerk {hash}\"}}"),
        created: at(0),
        expires: at(expires),
    }
}

pub(in crate::store) async fn a_session_is_found_until_its_end(site: &dyn Site) {
    let open = site.open();
    for new in [session(1, 100), session(2, 200)] {
        open.store.insert_session(new).await.unwrap();
    }
    drop(open);
    let open = site.open();
    let find = |hash, now| open.store.find_session([hash; 32], at(now));
    assert_eq!(find(1, 99).await.unwrap(), Some(session(1, 100)));
    assert_eq!(find(1, 100).await.unwrap(), None);
    assert_eq!(find(2, 100).await.unwrap(), Some(session(2, 200)));
    assert_eq!(find(3, 0).await.unwrap(), None);

    let retention = Retention {
        rows: super::seconds(1),
        audit: super::seconds(1),
    };
    open.store.sweep(retention, at(100)).await.unwrap();
    assert_eq!(find(1, 0).await.unwrap(), None, "swept");
    assert_eq!(find(2, 100).await.unwrap(), Some(session(2, 200)));
}

pub(in crate::store) async fn a_session_is_removed_once(site: &dyn Site) {
    let open = site.open();
    open.store.insert_session(session(1, 100)).await.unwrap();
    assert!(
        open.store.insert_session(session(1, 200)).await.is_err(),
        "it is taken"
    );
    let removals = (0..10).map(|_| open.store.remove_session([1; 32]));
    let removed = futures_util::future::try_join_all(removals).await.unwrap();
    let found: Vec<_> = removed.into_iter().flatten().collect();
    assert_eq!(found, [session(1, 100)]);
    assert_eq!(open.store.find_session([1; 32], at(0)).await.unwrap(), None);
}

pub(in crate::store) async fn what_is_settled_first_stays(site: &dyn Site) {
    let open = site.open();
    let proposals = (0..10_u8).map(|number| open.store.settle("secret", vec![number; 32]));
    let settled = futures_util::future::try_join_all(proposals).await.unwrap();
    let first = settled[0].clone();
    assert_eq!(first.len(), 32);
    assert!(
        settled.iter().all(|kept| *kept == first),
        "all get the same"
    );
    drop(open);
    let open = site.open();
    assert_eq!(open.store.settle("secret", vec![99]).await.unwrap(), first);
    assert_eq!(open.store.settle("other", vec![99]).await.unwrap(), [99]);
}
