//! How many connections there may be, in all and from one address.

use std::net::{IpAddr, Ipv6Addr};

/// What may come in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// In all.
    pub(super) total: usize,
    /// From each address; the default depends on whose it is.
    pub(super) per_address: Option<usize>,
}

/// Who is counted as one: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin(IpAddr);

impl Origin {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                Self(IpAddr::V6(Ipv6Addr::from(network)))
            }
            address => Self(address),
        }
    }

    /// Whether it is of this machine or of a private network (RFC 1918, RFC 4193, RFC 3927), where
    /// reverse proxies are.
    fn is_near(self) -> bool {
        match self.0 {
            IpAddr::V4(address) => {
                address.is_loopback() || address.is_private() || address.is_link_local()
            }
            // of ::1 only the network is left
            IpAddr::V6(address) => {
                let [first, rest @ ..] = address.segments();
                (first == 0 && rest == [0; 7])
                    || first & 0xfe00 == 0xfc00
                    || first & 0xffc0 == 0xfe80
            }
        }
    }
}

impl Places {
    /// Why nobody else may come in from there, if that is so.
    pub(super) fn refusal(self, connected: Connected, origin: Origin) -> Option<&'static str> {
        let Connected { in_all, from_there } = connected;
        if in_all >= self.total {
            return Some("too many connections");
        }
        let most = self.most(origin);
        (from_there >= most).then_some("too many connections from this address")
    }

    /// How many may come in from there.
    pub(super) fn most(self, origin: Origin) -> usize {
        match self.per_address {
            Some(limit) => limit,
            None if origin.is_near() => self.total,
            None => self.total.div_ceil(2),
        }
    }
}

/// Who is there already.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Connected {
    pub(super) in_all: usize,
    pub(super) from_there: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(places: Places, address: &str) -> usize {
        let origin = Origin::of(address.parse().unwrap());
        let is_let_in = |from_there: &usize| {
            let connected = Connected { in_all: *from_there, from_there: *from_there };
            places.refusal(connected, origin).is_none()
        };
        (0..).take_while(is_let_in).count()
    }

    #[test]
    fn a_stranger_gets_half_of_the_places_and_a_neighbour_all() {
        let places = Places { total: 10, per_address: None };
        for near in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fd00::1", "fe80::1"] {
            assert_eq!(most(places, near), 10, "{near}");
        }
        for far in ["203.0.113.7", "2001:db8::1", "::ffff:203.0.113.7"] {
            assert_eq!(most(places, far), 5, "{far}");
        }
        let places = Places { per_address: Some(3), ..places };
        assert_eq!([most(places, "127.0.0.1"), most(places, "203.0.113.7")], [3, 3]);
    }

    #[test]
    fn one_customer_is_one_origin() {
        let same = |one: &str, other: &str| {
            Origin::of(one.parse().unwrap()) == Origin::of(other.parse().unwrap())
        };
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("::ffff:203.0.113.7", "203.0.113.7"));
        assert!(!same("203.0.113.7", "203.0.113.8"));
    }

    #[test]
    fn whoever_is_refused_is_told_why() {
        let places = Places { total: 10, per_address: Some(2) };
        let origin = Origin::of("127.0.0.1".parse().unwrap());
        let refusal = |in_all, from_there| places.refusal(Connected { in_all, from_there }, origin);
        assert_eq!(refusal(9, 1), None);
        assert_eq!(refusal(9, 2), Some("too many connections from this address"));
        assert_eq!(refusal(10, 1), Some("too many connections"));
    }
}
