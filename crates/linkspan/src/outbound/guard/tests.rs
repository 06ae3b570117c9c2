//! Addresses and verdicts.

use proptest::prelude::*;

use super::*;

use Refused as R;

fn guard(networks: &[&str]) -> Guard {
    let networks: Vec<IpNet> = networks.iter().map(|text| text.parse().unwrap()).collect();
    Guard::new(&networks)
}

fn judge(networks: &[&str], address: &str) -> Option<Refused> {
    guard(networks).judge(address.parse().unwrap()).err()
}

#[test]
fn every_special_address_is_refused_and_every_other_one_is_not() {
    let cases: &[(&str, Option<Refused>)] = &[
        // IPv4: the first and the last of each range, and their neighbours.
        ("0.0.0.0", Some(R::Unspecified)),
        ("0.255.255.255", Some(R::Unspecified)),
        ("1.0.0.0", None),
        ("9.255.255.255", None),
        ("10.0.0.0", Some(R::Private)),
        ("10.255.255.255", Some(R::Private)),
        ("11.0.0.0", None),
        ("100.63.255.255", None),
        ("100.64.0.0", Some(R::Shared)),
        ("100.100.100.200", Some(R::Metadata)),
        ("100.127.255.255", Some(R::Shared)),
        ("100.128.0.0", None),
        ("126.255.255.255", None),
        ("127.0.0.1", Some(R::Loopback)),
        ("127.255.255.255", Some(R::Loopback)),
        ("128.0.0.0", None),
        ("168.63.129.16", Some(R::Metadata)),
        ("169.253.255.255", None),
        ("169.254.0.0", Some(R::LinkLocal)),
        ("169.254.169.254", Some(R::Metadata)),
        ("169.254.170.2", Some(R::Metadata)),
        ("169.254.255.255", Some(R::LinkLocal)),
        ("169.255.0.0", None),
        ("172.15.255.255", None),
        ("172.16.0.0", Some(R::Private)),
        ("172.31.255.255", Some(R::Private)),
        ("172.32.0.0", None),
        ("191.255.255.255", None),
        ("192.0.0.0", Some(R::Reserved)),
        ("192.0.0.192", Some(R::Metadata)),
        ("192.0.0.255", Some(R::Reserved)),
        ("192.0.1.0", None),
        ("192.0.2.1", Some(R::Reserved)),
        ("192.0.3.0", None),
        ("192.88.99.1", Some(R::Reserved)),
        ("192.167.255.255", None),
        ("192.168.0.0", Some(R::Private)),
        ("192.168.255.255", Some(R::Private)),
        ("192.169.0.0", None),
        ("198.17.255.255", None),
        ("198.18.0.0", Some(R::Reserved)),
        ("198.19.255.255", Some(R::Reserved)),
        ("198.20.0.0", None),
        ("198.51.100.7", Some(R::Reserved)),
        ("203.0.113.7", Some(R::Reserved)),
        ("223.255.255.255", None),
        ("224.0.0.1", Some(R::Multicast)),
        ("239.255.255.255", Some(R::Multicast)),
        ("240.0.0.0", Some(R::Reserved)),
        ("255.255.255.254", Some(R::Reserved)),
        ("255.255.255.255", Some(R::Multicast)),
        // IPv6.
        ("::", Some(R::Unspecified)),
        ("::1", Some(R::Loopback)),
        ("::2", Some(R::Reserved)),
        ("100::1", Some(R::Reserved)),
        ("1fff::1", Some(R::Reserved)),
        ("2000::1", None),
        ("2001:1::1", Some(R::Reserved)),
        ("2001:2::1", Some(R::Reserved)),
        ("2001:20::1", Some(R::Reserved)),
        ("2001:1ff::1", Some(R::Reserved)),
        ("2001:200::1", None),
        ("2001:4860:4860::8888", None),
        ("2001:db8::1", Some(R::Reserved)),
        ("2a00:1450:4001:82a::200e", None),
        ("3fff::1", Some(R::Reserved)),
        ("3fff:1000::1", None),
        ("4000::1", Some(R::Reserved)),
        ("5f00::1", Some(R::Reserved)),
        ("fc00::1", Some(R::Private)),
        ("fd00:ec2::254", Some(R::Metadata)),
        ("fd20:ce::254", Some(R::Metadata)),
        ("fdff::1", Some(R::Private)),
        ("fe80::1", Some(R::LinkLocal)),
        ("fe80::a9fe:a9fe", Some(R::Metadata)),
        ("febf::1", Some(R::LinkLocal)),
        ("fec0::1", Some(R::Private)),
        ("ff02::1", Some(R::Multicast)),
        // IPv4 inside IPv6.
        ("::ffff:127.0.0.1", Some(R::Loopback)),
        ("::ffff:169.254.169.254", Some(R::Metadata)),
        ("::ffff:8.8.8.8", None),
        ("::127.0.0.1", Some(R::Reserved)),
        ("::8.8.8.8", Some(R::Reserved)),
        ("64:ff9b::10.0.0.1", Some(R::Private)),
        ("64:ff9b::169.254.169.254", Some(R::Metadata)),
        ("64:ff9b::8.8.8.8", None),
        ("64:ff9b::1:8.8.8.8", Some(R::Reserved)),
        ("64:ff9b:1::8.8.8.8", Some(R::Private)),
        ("64:ff9b:1:808:8:800::", Some(R::Private)),
        ("64:ff9b:1:a9fe:a9:fe00::", Some(R::Metadata)),
        ("2002:7f00:1::", Some(R::Loopback)),
        ("2002:a9fe:a9fe::1", Some(R::Metadata)),
        ("2002:808:808::1", None),
        ("2001:0:808:808:0:0:f5ff:fffe", Some(R::Private)),
        ("2001:0:a00:1:0:0:f7f7:f7f7", Some(R::Private)),
        ("2001:0:808:808:0:0:f7f7:f7f7", None),
        ("2a00:1450::5efe:10.0.0.1", Some(R::Private)),
        ("2a00:1450::200:5efe:192.168.0.1", Some(R::Private)),
        ("2a00:1450::5efe:8.8.8.8", None),
    ];
    for (address, expected) in cases {
        assert_eq!(judge(&[], address), *expected, "{address}");
    }
}

#[test]
fn an_operators_network_lets_through_what_it_holds_and_nothing_else() {
    let cases: &[(&[&str], &str, Option<Refused>)] = &[
        (&["127.0.0.0/8"], "127.0.0.1", None),
        (&["127.0.0.0/8"], "::ffff:127.0.0.1", None),
        (&["127.0.0.0/8"], "::1", Some(R::Loopback)),
        (&["::1/128"], "::1", None),
        (&["10.20.0.0/16"], "10.20.1.1", None),
        (&["10.20.0.0/16"], "10.21.1.1", Some(R::Private)),
        (&["10.20.0.0/16"], "64:ff9b::10.20.1.1", None),
        (&["::ffff:10.20.0.0/112"], "10.20.1.1", None),
        (&["2000::/3"], "2002:a00:1::", None),
        (&["64:ff9b:1::/48"], "64:ff9b:1::8.8.8.8", None),
        (
            &["64:ff9b:1::/48"],
            "64:ff9b:1::169.254.169.254",
            Some(R::Metadata),
        ),
        (&["fd00::/8"], "fd12::1", None),
        (&["fd00::/8"], "fd00:ec2::254", Some(R::Metadata)),
        (&["fd00:ec2::254/128"], "fd00:ec2::254", None),
        (&["169.254.0.0/16"], "169.254.1.1", None),
        (&["169.254.0.0/16"], "169.254.169.254", Some(R::Metadata)),
        (&["0.0.0.0/0"], "169.254.169.254", Some(R::Metadata)),
        (
            &["169.254.169.254/31"],
            "169.254.169.254",
            Some(R::Metadata),
        ),
        (&["169.254.169.254/32"], "169.254.169.254", None),
        (&["169.254.169.254/32"], "64:ff9b::169.254.169.254", None),
    ];
    for (networks, address, expected) in cases {
        assert_eq!(
            judge(networks, address),
            *expected,
            "{networks:?} {address}"
        );
    }
}

#[test]
fn a_mapped_address_is_called_as_ipv4() {
    let called = guard(&[]).judge("::ffff:8.8.8.8".parse().unwrap());
    assert_eq!(called, Ok("8.8.8.8".parse().unwrap()));
}

/// The refused ranges of IPv4, from the registry, written apart from the code's own.
const RANGES: [(u32, u8); 16] = [
    (0x0000_0000, 8),
    (0x0a00_0000, 8),
    (0x6440_0000, 10),
    (0x7f00_0000, 8),
    (0xa9fe_0000, 16),
    (0xac10_0000, 12),
    (0xc000_0000, 24),
    (0xc000_0200, 24),
    (0xc058_6300, 24),
    (0xc0a8_0000, 16),
    (0xc612_0000, 15),
    (0xc633_6400, 24),
    (0xcb00_7100, 24),
    (0xe000_0000, 4),
    (0xf000_0000, 4),
    (0xa83f_8110, 32),
];

proptest! {
    #[test]
    fn an_address_of_a_refused_range_is_refused_in_whatever_form(range in prop::sample::select(&RANGES[..]), random: u32, below: u64, prefix: u32) {
        let (network, length) = range;
        let host = if length == 32 { 0 } else { random & (u32::MAX >> length) };
        let four = network | host;
        let (high, low) = ((four >> 16) as u16, four as u16);
        let below: [u16; 4] = std::array::from_fn(|place| (below >> (16 * place)) as u16);
        let [a, b, c, d] = four.to_be_bytes();
        let forms = [
            IpAddr::V4(four.into()),
            IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low)),
            IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low)),
            IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low)),
            IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 1, below[0], below[1], below[2], high, low)),
            IpAddr::V6(Ipv6Addr::from([0, 0x64, 0xff, 0x9b, 0, 1, a, b, 0, c, d, 0, 0, 0, 0, 0])),
            IpAddr::V6(Ipv6Addr::new(0x2002, high, low, below[0], below[1], below[2], below[3], 1)),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !0x0808, !0x0808)),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0, 0x0808, 0x0808, 0, 0, !high, !low)),
            IpAddr::V6(Ipv6Addr::new(0x2a00, (prefix >> 16) as u16, prefix as u16, 0, 0, 0x5efe, high, low)),
        ];
        for form in forms {
            prop_assert!(guard(&[]).judge(form).is_err(), "{form}");
        }
    }

    #[test]
    fn nothing_outside_of_global_unicast_and_nat64_is_called_over_ipv6(random: u128) {
        let address = Ipv6Addr::from(random);
        let global = address.segments()[0] & 0xe000 == 0x2000;
        if !global && address.to_ipv4_mapped().is_none() && address.segments()[..6] != [0x64, 0xff9b, 0, 0, 0, 0] {
            prop_assert!(guard(&[]).judge(address.into()).is_err(), "{address}");
        }
    }
}
