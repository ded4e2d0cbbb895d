//! Whose connections they are.

use std::net::{IpAddr, Ipv6Addr};

/// Whose connections are counted as one's: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Subnet(IpAddr);

impl Subnet {
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
    pub(super) fn is_near(self) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Subnet {
        Subnet::of(address.parse().unwrap())
    }

    #[test]
    fn one_customer_is_one_network() {
        let same = |one: &str, other: &str| network(one) == network(other);
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("::ffff:203.0.113.7", "203.0.113.7"));
        assert!(!same("203.0.113.7", "203.0.113.8"));
    }
}
