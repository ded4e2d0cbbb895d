//! Which of a host's addresses are tried, and in which order.

use std::net::SocketAddr;

/// How many addresses of a host are tried: names that have more are broken, or hostile.
const MOST: usize = 64;

/// Remembers the addresses that could be connected to and led to nothing, so that the next
/// attempt begins with another one. Those that refuse are passed by within an attempt; one that
/// connects and then stays mute, or has nothing but errors to say, uses the attempt up.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// The oldest first, each once.
    failed: Vec<SocketAddr>,
    /// The one that led to the last link, until it fails: a session may be there.
    last: Option<SocketAddr>,
}

impl Addresses {
    /// Keeps the resolver's order within each family and its first family first (RFC 8305 section
    /// 4), and each address once. What has failed comes last, the oldest failure first.
    pub(crate) fn in_order(&self, resolved: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut order = alternate_families(resolved);
        order.sort_by_key(|address| {
            if self.last == Some(*address) {
                return 0;
            }
            let failure = self.failed.iter().position(|failed| failed == address);
            failure.map_or(1, |position| position + 2)
        });
        order
    }

    /// This one was connected to, and that was all.
    pub(crate) fn has_failed(&mut self, address: SocketAddr) {
        self.failed.retain(|failed| *failed != address);
        self.last = self.last.filter(|last| *last != address);
        if self.failed.len() == MOST {
            self.failed.remove(0);
        }
        self.failed.push(address);
    }

    /// A link is up, at this address if it is known: what happened before says nothing any more.
    pub(crate) fn succeeded(&mut self, address: Option<SocketAddr>) {
        self.failed.clear();
        self.last = address;
    }
}

fn alternate_families(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut different: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if different.len() == MOST {
            break;
        }
        if !different.contains(address) {
            different.push(*address);
        }
    }
    let first_is_v6 = different.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) =
        different.iter().copied().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::with_capacity(different.len());
    while order.len() < different.len() {
        order.extend(first.next());
        order.extend(second.next());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn families_alternate_and_keep_their_order_and_nothing_is_dialed_twice() {
        let resolved = parse(&[
            "[::1]:1",
            "[::2]:1",
            "[::1]:1",
            "[::3]:1",
            "10.0.0.1:1",
            "10.0.0.2:1",
            "10.0.0.1:1",
        ]);
        let order = Addresses::default().in_order(&resolved);
        let wanted = ["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"];
        assert_eq!(order, parse(&wanted));
    }

    #[test]
    fn what_has_failed_comes_last_until_there_is_a_link() {
        let resolved = parse(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let mut addresses = Addresses::default();
        for first in ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.1:1"] {
            let order = addresses.in_order(&resolved);
            assert_eq!(order[0], first.parse().unwrap());
            addresses.has_failed(order[0]);
        }
        addresses.succeeded(None);
        assert_eq!(addresses.in_order(&resolved), resolved);
    }

    #[test]
    fn of_a_hundred_thousand_the_first_are_tried() {
        let address = |number: u32| SocketAddr::from((number.to_be_bytes(), 1));
        let resolved: Vec<SocketAddr> = (0..100_000).map(address).collect();
        let mut addresses = Addresses::default();
        let order = addresses.in_order(&resolved);
        assert_eq!(order, resolved[..MOST]);
        for address in &resolved {
            addresses.has_failed(*address);
        }
        assert_eq!(addresses.failed.len(), MOST);
    }
}
