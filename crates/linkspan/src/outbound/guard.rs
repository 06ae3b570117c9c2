//! Which addresses may be called: a pure judgement of one IP address, whatever name or spelling led to it.
//!
//! Refused is what the special-purpose registries of IANA (RFC 6890 and its successors) do not call globally reachable. An IPv6 address
//! that carries an IPv4 address inside (mapped, NAT64, 6to4, Teredo, ISATAP) is judged by that one as well. An operator's network lets
//! an address through again; the metadata services of clouds, which hand out credentials, only a network of that one address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// The operator's networks (`outbound.private_networks`), and the judgement.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    allowed: Vec<IpNet>,
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This machine: 127.0.0.0/8, `::1`.
    Loopback,
    /// No address at all, which the system takes for this machine: 0.0.0.0/8, `::`.
    Unspecified,
    /// A private network: RFC 1918, RFC 4193, `fec0::/10`.
    Private,
    /// The same cable: 169.254.0.0/16, `fe80::/10`.
    LinkLocal,
    /// A cloud's metadata service.
    Metadata,
    /// A provider's shared space: 100.64.0.0/10 (RFC 6598).
    Shared,
    /// Many receivers: multicast and broadcast.
    Multicast,
    /// Documentation, benchmarks, protocol assignments, and what is not assigned.
    Reserved,
}

impl Guard {
    pub(super) fn new(networks: &[IpNet]) -> Self {
        Self {
            allowed: networks.iter().map(unmapped).collect(),
        }
    }

    /// Whether an address may be called. Gives it in the form in which it is to be called (a mapped IPv4 address as IPv4).
    pub(super) fn judge(&self, address: IpAddr) -> Result<IpAddr, Refused> {
        let address = address.to_canonical();
        let (refused, inside) = match address {
            IpAddr::V4(address) => (refused_v4(address), Vec::new()),
            IpAddr::V6(address) => (refused_v6(address), embedded(address)),
        };
        // What the address itself is, then what it leads to.
        let faces = std::iter::once((address, refused)).chain(
            inside
                .into_iter()
                .map(|face| (face.into(), refused_v4(face))),
        );
        let faces = faces.filter_map(|(face, refused)| refused.map(|refused| (face, refused)));
        let mut why = None;
        for (face, refused) in faces {
            if refused == Refused::Metadata && !self.names(face) {
                return Err(Refused::Metadata);
            }
            // Who allows a translator's address has allowed what is behind it, but for metadata.
            if !self.allows(face) && !self.allows(address) {
                why.get_or_insert(refused);
            }
        }
        why.map_or(Ok(address), Err)
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allowed
            .iter()
            .any(|network| network.contains(&address))
    }

    /// Whether a network of this one address is there.
    fn names(&self, address: IpAddr) -> bool {
        self.allowed.iter().any(|network| {
            network.prefix_len() == network.max_prefix_len() && network.addr() == address
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "an address of this machine",
            Self::Unspecified => "no address of a host",
            Self::Private => "an address of a private network",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "the address of a cloud's metadata service",
            Self::Shared => "an address of a provider's shared space",
            Self::Multicast => "a multicast address",
            Self::Reserved => "a reserved address",
        })
    }
}

/// A network of mapped IPv4 addresses as the IPv4 network that it means.
fn unmapped(network: &IpNet) -> IpNet {
    match network {
        IpNet::V6(six) if six.prefix_len() >= 96 => six
            .addr()
            .to_ipv4_mapped()
            .and_then(|four| Ipv4Net::new(four, six.prefix_len() - 96).ok())
            .map_or(*network, IpNet::V4),
        _ => *network,
    }
}

/// The metadata services that a request from a cloud machine reaches: most clouds, AWS (containers, pods), Alibaba, Oracle, Azure.
const METADATA_V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];

/// The same over IPv6: AWS (machines, pods), Google, OpenStack.
const METADATA_V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

/// The IPv4 registry (RFC 6890).
fn refused_v4(address: Ipv4Addr) -> Option<Refused> {
    if METADATA_V4.contains(&address) {
        return Some(Refused::Metadata);
    }
    Some(match address.octets() {
        [0, ..] => Refused::Unspecified,
        [127, ..] => Refused::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Refused::Private,
        [169, 254, ..] => Refused::LinkLocal,
        [100, 64..=127, ..] => Refused::Shared,
        [224..=239, ..] | [255, 255, 255, 255] => Refused::Multicast,
        [240..=255, ..]                 // reserved (RFC 1112)
        | [192, 0, 0 | 2, _]            // protocol assignments, documentation
        | [192, 88, 99, _]              // 6to4 relays, given up (RFC 7526)
        | [198, 18..=19, ..]            // benchmarks (RFC 2544)
        | [198, 51, 100, _] | [203, 0, 113, _] => Refused::Reserved,
        _ => return None,
    })
}

/// The IPv6 registry. Everything outside of global unicast (2000::/3) is refused, but for NAT64's well-known prefix.
fn refused_v6(address: Ipv6Addr) -> Option<Refused> {
    if METADATA_V6.contains(&address) {
        return Some(Refused::Metadata);
    }
    Some(match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Refused::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Refused::Loopback,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Refused::Private,
        [0xfe80..=0xfebf, ..] => Refused::LinkLocal,
        [0xff00..=0xffff, ..] => Refused::Multicast,
        [0x64, 0xff9b, 1, ..] => Refused::Private, // a network's own NAT64 (RFC 8215)
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x2001, 0, ..] => return None, // judged by what they carry
        [0x2001, 0..=0x1ff, ..]                    // protocol assignments (RFC 2928)
        | [0x2001, 0xdb8, ..]                      // documentation
        | [0x3fff, 0..=0xfff, ..] => Refused::Reserved, // documentation (RFC 9637)
        [0x2000..=0x3fff, ..] => return None,
        _ => Refused::Reserved,
    })
}

/// The IPv4 addresses inside an IPv6 address: the places where a translator or a tunnel would send what is sent there.
fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let mut inside = match address.segments() {
        // IPv4-compatible (RFC 4291, given up) and NAT64's well-known prefix (RFC 6052).
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => vec![v4(high, low)],
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => vec![v4(high, low)],
        // A network's own NAT64 prefix may end at bit 48, 56, 64 or 96; bits 64 to 71 are not part of the address (RFC 6052).
        [0x64, 0xff9b, 1, ..] => {
            let bytes = address.octets();
            let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| bytes[place]));
            [
                [6, 7, 9, 10],
                [7, 9, 10, 11],
                [9, 10, 11, 12],
                [12, 13, 14, 15],
            ]
            .map(at)
            .to_vec()
        }
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => vec![v4(high, low)],
        // Teredo (RFC 4380): the server, and the client with its bits turned.
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            vec![v4(server_high, server_low), v4(!high, !low)]
        }
        _ => Vec::new(),
    };
    // ISATAP (RFC 5214): in the interface's part, below any prefix.
    if let [_, _, _, _, 0 | 0x200, 0x5efe, high, low] = address.segments() {
        inside.push(v4(high, low));
    }
    inside
}

#[cfg(test)]
mod tests;
