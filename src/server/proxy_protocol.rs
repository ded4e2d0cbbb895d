//! The header with which a proxy says whose connection it hands on: the [PROXY protocol], versions 1 and 2.
//!
//! [PROXY protocol]: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::failure::HandshakeError;

const V1: &[u8] = b"PROXY ";
/// With the CRLF at its end.
const MAX_V1: usize = 107;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What comes before the addresses.
const V2_HEAD: usize = 16;

/// A longer header, because of what it says besides addresses, is refused. nginx takes as much.
const MAX_SIZE: usize = 4096;

/// Whose connection it is: the proxy's own, if this is `None`.
type Client = Option<SocketAddr>;

/// Reads a header; returns whose connection it is, and what was read past the header.
pub(super) fn read(stream: &mut impl Read) -> Result<(Client, Vec<u8>), HandshakeError> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 256];
    loop {
        let read = stream.read(&mut chunk).map_err(HandshakeError::Io)?;
        if read == 0 {
            return Err(HandshakeError::Eof);
        }
        bytes.extend_from_slice(&chunk[..read]);
        let parsed = parse(&bytes);
        if let Some((client, length)) =
            parsed.map_err(|why| HandshakeError::BadUpgrade(format!("no PROXY header: {why}")))?
        {
            return Ok((client, bytes.split_off(length)));
        }
    }
}

/// Whose connection it is, and how long the header is; nothing yet, if more of it is to come.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Client, usize)>, &'static str> {
    let begins = |signature: &[u8]| {
        let length = signature.len().min(bytes.len());
        bytes[..length] == signature[..length]
    };
    if begins(V2) {
        v2(bytes)
    } else if begins(V1) {
        v1(bytes)
    } else {
        Err("it begins with something else")
    }
}

fn v1(bytes: &[u8]) -> Result<Option<(Client, usize)>, &'static str> {
    let Some(end) = bytes.iter().take(MAX_V1).position(|byte| *byte == b'\n') else {
        return if bytes.len() < MAX_V1 { Ok(None) } else { Err("its line has no end") };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or("its line does not end in CRLF")?;
    let line = std::str::from_utf8(line).map_err(|_| "it is no text")?;
    let mut words = line.split(' ').skip(1);
    let client = match words.next() {
        Some("UNKNOWN") => return Ok(Some((None, end + 1))),
        Some("TCP4") => addresses::<Ipv4Addr>(&mut words),
        Some("TCP6") => addresses::<Ipv6Addr>(&mut words),
        _ => None,
    };
    let client = client.filter(|_| words.next().is_none());
    client.map(|client| Some((Some(client), end + 1))).ok_or("its line is none")
}

/// Those of the client, out of two addresses and two ports.
fn addresses<'a, A: FromStr + Into<IpAddr>>(
    words: &mut impl Iterator<Item = &'a str>,
) -> Option<SocketAddr> {
    let mut address = || words.next()?.parse::<A>().ok();
    let (client, _) = (address()?, address()?);
    let mut port = || {
        let digits = words.next()?;
        let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|_| is_number)
    };
    let (port, _) = (port()?, port()?);
    Some(SocketAddr::new(client.into(), port))
}

fn v2(bytes: &[u8]) -> Result<Option<(Client, usize)>, &'static str> {
    let Some(head) = bytes.first_chunk::<V2_HEAD>() else { return Ok(None) };
    let [.., command, family, high, low] = *head;
    let length = V2_HEAD + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_SIZE {
        return Err("it is longer than 4096 bytes");
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err("its version or command is unknown"),
    };
    if family >> 4 > 3 || family & 0xf > 2 {
        return Err("its family is unknown");
    }
    let Some(said) = bytes.get(V2_HEAD..length) else { return Ok(None) };
    let client = match family {
        // a connection of the proxy's own, a health check say, whatever else it says
        _ if is_local => None,
        0x11 => {
            let [a, b, c, d, _, _, _, _, high, low, _, _, ..] = *said else {
                return Err("its addresses are cut off");
            };
            let port = u16::from_be_bytes([high, low]);
            Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port))
        }
        0x21 => {
            let (client, rest) =
                said.split_first_chunk::<16>().ok_or("its addresses are cut off")?;
            let [high, low, _, _, ..] = *rest.get(16..).unwrap_or_default() else {
                return Err("its addresses are cut off");
            };
            let port = u16::from_be_bytes([high, low]);
            Some(SocketAddr::new(Ipv6Addr::from(*client).into(), port))
        }
        // of no family, of Unix sockets, or no stream: there is no address to be had
        _ => None,
    };
    Ok(Some((client, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2_header(command: u8, family: u8, said: &[u8]) -> Vec<u8> {
        let length = (said.len() as u16).to_be_bytes();
        [V2, &[command, family], &length, said].concat()
    }

    fn client(bytes: &[u8]) -> Result<Option<Option<String>>, &'static str> {
        // behind it comes what the client says, and no cut of it is anything else
        let whole = parse(bytes)?;
        if let Some((_, length)) = whole {
            assert_eq!(length, bytes.len(), "{bytes:?}");
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "{bytes:?} cut at {cut}");
            }
            assert_eq!(parse(&[bytes, b"GET / "].concat()), Ok(whole));
        }
        Ok(whole.map(|(client, _)| client.map(|client| client.to_string())))
    }

    #[test]
    fn a_line_says_whose_connection_it_is() {
        let said = |line: &str| client(line.as_bytes());
        let is = |address: &str| Ok(Some(Some(address.to_owned())));
        assert_eq!(said("PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n"), is("203.0.113.9:56324"));
        assert_eq!(said("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"), is("[2001:db8::1]:1"));
        assert_eq!(said("PROXY UNKNOWN\r\n"), Ok(Some(None)));
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(MAX_V1 - 16));
        assert_eq!(said(&longest), Ok(Some(None)));
        for wrong in [
            "GET / HTTP/1.1\r\n",
            "PROXY\r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
            "PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "proxy UNKNOWN\r\n",
            &format!("PROXY UNKNOWN {}", "f".repeat(MAX_V1)),
        ] {
            assert!(said(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn bytes_say_whose_connection_it_is() {
        let ipv4 = [203, 0, 113, 9, 192, 0, 2, 1, 0xdc, 4, 1, 0xbb];
        let is = |address: &str| Ok(Some(Some(address.to_owned())));
        assert_eq!(client(&v2_header(0x21, 0x11, &ipv4)), is("203.0.113.9:56324"));
        // with more behind the addresses
        let more = [&ipv4[..], &[4, 0, 3, 1, 2, 3]].concat();
        assert_eq!(client(&v2_header(0x21, 0x11, &more)), is("203.0.113.9:56324"));
        let mut ipv6 = [0; 36];
        (ipv6[0], ipv6[15], ipv6[33]) = (0xfd, 7, 80);
        assert_eq!(client(&v2_header(0x21, 0x21, &ipv6)), is("[fd00::7]:80"));
        // its own connections, Unix sockets, and what has no family
        for (command, family) in [(0x20, 0x11), (0x20, 0), (0x21, 0), (0x21, 0x31), (0x21, 0x12)] {
            assert_eq!(client(&v2_header(command, family, &[7; 216])), Ok(Some(None)));
        }
        for wrong in [
            v2_header(0x21, 0x11, &ipv4[..11]),
            v2_header(0x21, 0x21, &ipv6[..33]),
            v2_header(0x11, 0x11, &ipv4),
            v2_header(0x22, 0x11, &ipv4),
            v2_header(0x21, 0x41, &ipv4),
            v2_header(0x21, 0x13, &ipv4),
            v2_header(0x21, 0x11, &[0; MAX_SIZE]),
            b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
        ] {
            assert!(client(&wrong).is_err(), "{wrong:?}");
        }
    }
}
