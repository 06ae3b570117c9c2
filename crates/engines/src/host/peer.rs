//! Who is at the other end of a loopback connection.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Whether the socket at `peer` that is connected to `here` belongs to this process's user.
///
/// True where the system does not say: then only the port number, which is not announced, keeps others away.
pub(super) fn is_same_user(peer: SocketAddrV4, here: SocketAddrV4) -> bool {
    let tables: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .collect();
    let ours = rustix::process::geteuid().as_raw();
    tables.is_empty() || tables.iter().find_map(|table| owner(table, peer, here)) == Some(ours)
}

/// The user id of a socket in the kernel's table (`Documentation/networking/proc_net_tcp.rst`).
fn owner(table: &str, local: SocketAddrV4, remote: SocketAddrV4) -> Option<u32> {
    let (local, remote) = (written(local), written(remote));
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        // An IPv6 socket shows an IPv4 address as its last four bytes.
        let is_it = fields.next()?.ends_with(&local) && fields.next()?.ends_with(&remote);
        is_it.then(|| fields.nth(4)?.parse().ok()).flatten()
    })
}

fn written(address: SocketAddrV4) -> String {
    let ip: Ipv4Addr = *address.ip();
    format!(
        "{:08X}:{:04X}",
        u32::from_ne_bytes(ip.octets()),
        address.port()
    )
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_owner_of_a_socket_is_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n\
            \x20  1: 0100007F:A000 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 2 1\n";
        let at = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        assert_eq!(owner(table, at(0xA000), at(0x1F90)), Some(1000));
        assert_eq!(owner(table, at(0xA001), at(0x1F90)), None);
    }

    #[test]
    fn a_connection_of_this_user_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (SocketAddr::V4(peer), SocketAddr::V4(here)) =
            (client.local_addr().unwrap(), client.peer_addr().unwrap())
        else {
            unreachable!("bound to IPv4");
        };
        assert!(is_same_user(peer, here));
    }
}
