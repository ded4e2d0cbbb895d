//! SOCKS5 (RFC 1928), with a user and a password where it wants them (RFC 1929).

use std::io::{self, Read, Write};
use std::net::IpAddr;

use crate::failure::ProxyError;
use crate::http1::Credentials;

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;

pub(super) fn open(
    stream: &mut (impl Read + Write),
    host: &str,
    port: u16,
    credentials: Option<&Credentials>,
) -> Result<(), ProxyError> {
    log_in(stream, credentials)?;
    let mut request = vec![VERSION, 1, 0];
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            request.push(1);
            request.extend_from_slice(&ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            request.push(4);
            request.extend_from_slice(&ip.octets());
        }
        Err(_) => {
            let length = u8::try_from(host.len())
                .map_err(|_| ProxyError::malformed("SOCKS5 carries no name that long"))?;
            request.extend_from_slice(&[3, length]);
            request.extend_from_slice(host.as_bytes());
        }
    }
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request)?;
    let [version, code, _, address_type] = read_bytes(stream)?;
    check_version(version)?;
    if code != 0 {
        return Err(ProxyError::Socks { code, reason: reason(code) });
    }
    // the address that the proxy is bound to is of no interest, but it has to be read
    let length = match address_type {
        1 => 4,
        4 => 16,
        3 => {
            let [length] = read_bytes(stream)?;
            usize::from(length)
        }
        _ => return Err(ProxyError::malformed("an address of an unknown kind")),
    };
    let mut bound = [0; 255 + 2];
    stream.read_exact(&mut bound[..length + 2])?;
    Ok(())
}

fn log_in(
    stream: &mut (impl Read + Write),
    credentials: Option<&Credentials>,
) -> Result<(), ProxyError> {
    match credentials {
        None => stream.write_all(&[VERSION, 1, NO_LOGIN])?,
        Some(_) => stream.write_all(&[VERSION, 2, NO_LOGIN, PASSWORD])?,
    }
    let [version, method] = read_bytes(stream)?;
    check_version(version)?;
    match (method, credentials) {
        (NO_LOGIN, _) => Ok(()),
        (PASSWORD, Some(Credentials { user, password })) => {
            let mut request = vec![1, length(user)?];
            request.extend_from_slice(user);
            request.push(length(password)?);
            request.extend_from_slice(password);
            stream.write_all(&request)?;
            let [version, result] = read_bytes(stream)?;
            // RFC 1929 section 2 says 1; some say the version of SOCKS instead
            if !matches!(version, 1 | VERSION) {
                return Err(ProxyError::malformed("it answers a login of another version"));
            }
            if result == 0 { Ok(()) } else { Err(ProxyError::Credentials) }
        }
        _ => Err(ProxyError::Credentials),
    }
}

fn check_version(version: u8) -> Result<(), ProxyError> {
    if version == VERSION {
        return Ok(());
    }
    Err(ProxyError::malformed("it does not speak SOCKS5"))
}

fn length(text: &[u8]) -> Result<u8, ProxyError> {
    u8::try_from(text.len()).map_err(|_| ProxyError::malformed("SOCKS5 carries none that long"))
}

fn read_bytes<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// RFC 1928 section 6.
fn reason(code: u8) -> &'static str {
    match code {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unknown reason",
    }
}
