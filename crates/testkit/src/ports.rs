//! Ports for servers that are stopped and started again on the same one.

use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpListener;

/// So many ports of loopback that are free and differ, below those that the system gives to clients (32,768 and above on Linux): while a
/// server is away no client of anything has its port. One that asks again and again whether the server is back would else get that very
/// port for itself some day, and be connected to itself.
pub(crate) fn free<const N: usize>() -> [u16; N] {
    let mut free = std::iter::repeat_with(|| {
        let random = RandomState::new().hash_one(());
        10_000 + u16::try_from(random % 20_000).expect("a small number")
    })
    .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    // Held until all are found.
    let listeners: [TcpListener; N] = std::array::from_fn(|_| free.next().expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("its address").port())
}
