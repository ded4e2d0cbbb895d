//! Networks that the program names.

use std::net::IpAddr;

/// Addresses and networks (CIDR), and perhaps what comes by a Unix socket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Networks {
    /// Addresses and the lengths of their prefixes.
    prefixes: Vec<(IpAddr, u32)>,
    has_unix: bool,
}

impl Networks {
    /// An error says what is wrong with one.
    pub(crate) fn parse(names: &[String]) -> Result<Self, String> {
        let mut networks = Self::default();
        for name in names {
            match prefix(name) {
                Some(prefix) => networks.prefixes.push(prefix),
                None if name == "unix:" => networks.has_unix = true,
                None => return Err(format!("{name:?} is no address and no network")),
            }
        }
        if names.is_empty() { Err("nobody is trusted".into()) } else { Ok(networks) }
    }

    /// `None` is a connection by a Unix socket.
    pub(crate) fn contain(&self, address: Option<IpAddr>) -> bool {
        let Some(address) = address.map(|address| address.to_canonical()) else {
            return self.has_unix;
        };
        self.prefixes.iter().any(|(network, length)| match (network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= *length
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= *length
            }
            _ => false,
        })
    }
}

fn prefix(name: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = match name.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (name, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => most,
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            digits.parse().ok()?
        }
        Some(_) => return None,
    };
    (length <= most).then_some((address, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(names: &[&str]) -> Result<Networks, String> {
        Networks::parse(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_network_contains_what_begins_as_it_does() {
        let some = networks(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/33", "::1", "unix:"]).unwrap();
        let contain = |address: &str| some.contain(Some(address.parse().unwrap()));
        for inside in
            ["10.0.0.0", "10.255.1.2", "192.0.2.7", "::ffff:10.1.1.1", "2001:db8:7fff::1", "::1"]
        {
            assert!(contain(inside), "{inside}");
        }
        for outside in
            ["11.0.0.0", "9.255.255.255", "192.0.2.6", "2001:db8:8000::", "::2", "::", "0.0.0.0"]
        {
            assert!(!contain(outside), "{outside}");
        }
        assert!(some.contain(None));
        let all = networks(&["0.0.0.0/0"]).unwrap();
        assert!(all.contain(Some("203.0.113.1".parse().unwrap())));
        assert!(!all.contain(Some("::1".parse().unwrap())) && !all.contain(None));
        for wrong in ["", "10.0.0.0/33", "::/129", "10/8", "10.0.0.0/", "10.0.0.0/+8", "x", "unix"]
        {
            assert!(networks(&[wrong]).is_err(), "{wrong}");
        }
        assert!(networks(&[]).is_err());
    }
}
