//! Agreeing on permessage-deflate (RFC 7692 section 7.1), the one extension that is known here.

use http::HeaderMap;
use http::header::{self, HeaderValue};

use crate::failure::quote;
use crate::http1::head::is_token;
use crate::policy::{AgreedCompression, Compression, WINDOW_BITS};

const NAME: &str = "permessage-deflate";
const SERVER_NO_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_BITS: &str = "server_max_window_bits";
const CLIENT_BITS: &str = "client_max_window_bits";

/// The largest window: what holds where nothing is said.
const MOST: u8 = *WINDOW_BITS.end();

/// An extension as it is written in a header, with the quotes of its values removed.
#[derive(Debug, PartialEq, Eq)]
struct Extension<'a> {
    name: &'a str,
    parameters: Vec<(String, Option<String>)>,
}

/// What is said about permessage-deflate, in an offer or in an answer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Parameters {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: Option<u8>,
    /// `Some(None)` for an offer that leaves the number to the server.
    client_bits: Option<Option<u8>>,
}

/// What a client offers.
pub(super) fn offer(compression: &Compression) -> String {
    let offered = Parameters {
        server_no_takeover: !compression.receive_takeover,
        client_no_takeover: !compression.send_takeover,
        server_bits: (compression.receive_bits < MOST).then_some(compression.receive_bits),
        client_bits: Some((compression.send_bits < MOST).then_some(compression.send_bits)),
    };
    offered.to_string()
}

/// What a server's answer makes of the offer, if one was made; an error says what is wrong with
/// the answer.
pub(crate) fn answered(
    headers: &HeaderMap,
    offered: Option<&Compression>,
) -> Result<Option<AgreedCompression>, String> {
    let extensions = parse(headers)
        .map_err(|value| format!("the extensions {} cannot be read", quote(value)))?;
    let compression = match (&extensions[..], offered) {
        ([], _) => return Ok(None),
        ([first, ..], None) => return Err(not_asked_for(first)),
        (_, Some(offered)) => offered,
    };
    if let Some(other) = extensions.iter().find(|extension| !extension.is_deflate()) {
        return Err(not_asked_for(other));
    }
    let [extension] = &extensions[..] else {
        return Err(format!("{NAME} was chosen more than once"));
    };
    let wrong = |what: String| format!("{NAME} was answered {what}");
    let answer = extension.parameters().map_err(wrong)?;
    if answer.client_bits == Some(None) {
        return Err(wrong(format!("with {CLIENT_BITS} without a number")));
    }
    let (server_bits, client_bits) =
        (answer.server_bits.unwrap_or(MOST), answer.client_bits.flatten().unwrap_or(MOST));
    if !compression.receive_takeover && !answer.server_no_takeover {
        return Err(wrong(format!("without {SERVER_NO_TAKEOVER}, which was asked for")));
    }
    if server_bits > compression.receive_bits {
        let asked = compression.receive_bits;
        return Err(wrong(format!("with windows of {server_bits} bits where {asked} were asked")));
    }
    Ok(Some(AgreedCompression {
        send_takeover: compression.send_takeover && !answer.client_no_takeover,
        receive_takeover: !answer.server_no_takeover,
        send_window_bits: client_bits.min(compression.send_bits),
        receive_window_bits: server_bits,
    }))
}

fn not_asked_for(extension: &Extension<'_>) -> String {
    format!("extension {} was not asked for", quote(extension.name))
}

/// The first of a client's offers that can be accepted: what a server answers to it, and what
/// that makes. An error says that what the client wrote cannot be read (RFC 6455 section 9.1).
///
/// The client of a session keeps no context: it may be one that compresses every message, and what
/// it sends next must not refer back to the token.
pub(crate) fn choose(
    headers: &HeaderMap,
    compression: Option<&Compression>,
    is_session: bool,
) -> Result<Option<(String, AgreedCompression)>, &'static str> {
    let Some(compression) = compression else { return Ok(None) };
    let offers = parse(headers).map_err(|_| "a Sec-WebSocket-Extensions that cannot be read")?;
    let offers = offers.iter().filter(|extension| extension.is_deflate());
    let known = offers.filter_map(|extension| extension.parameters().ok());
    Ok(known.into_iter().find_map(|offered| accept(offered, compression, is_session)))
}

fn accept(
    offered: Parameters,
    compression: &Compression,
    is_session: bool,
) -> Option<(String, AgreedCompression)> {
    let send_bits = offered.server_bits.unwrap_or(MOST).min(compression.send_bits);
    let least = *WINDOW_BITS.start();
    let receive_bits = match offered.client_bits {
        // the client cannot be limited
        None => MOST,
        Some(bits) => bits.unwrap_or(MOST).min(compression.receive_bits),
    };
    // a window of 8 bits is one that cannot be compressed with here
    if send_bits == least || receive_bits > compression.receive_bits {
        return None;
    }
    let answer = Parameters {
        server_no_takeover: offered.server_no_takeover || !compression.send_takeover,
        // a server may say so unasked (RFC 7692 section 7.1.1.2)
        client_no_takeover: offered.client_no_takeover
            || !compression.receive_takeover
            || is_session,
        server_bits: (offered.server_bits.is_some() || send_bits < MOST).then_some(send_bits),
        client_bits: (receive_bits < MOST).then_some(Some(receive_bits)),
    };
    let agreed = AgreedCompression {
        send_takeover: !answer.server_no_takeover,
        receive_takeover: !answer.client_no_takeover,
        send_window_bits: send_bits,
        receive_window_bits: receive_bits,
    };
    Some((answer.to_string(), agreed))
}

impl std::fmt::Display for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(NAME)?;
        for (is_set, name) in [
            (self.server_no_takeover, SERVER_NO_TAKEOVER),
            (self.client_no_takeover, CLIENT_NO_TAKEOVER),
        ] {
            if is_set {
                write!(f, "; {name}")?;
            }
        }
        for (bits, name) in
            [(self.server_bits.map(Some), SERVER_BITS), (self.client_bits, CLIENT_BITS)]
        {
            match bits {
                None => {}
                Some(None) => write!(f, "; {name}")?,
                Some(Some(bits)) => write!(f, "; {name}={bits}")?,
            }
        }
        Ok(())
    }
}

impl Extension<'_> {
    fn is_deflate(&self) -> bool {
        self.name.eq_ignore_ascii_case(NAME)
    }

    /// What the parameters say; an error says what is wrong with them.
    fn parameters(&self) -> Result<Parameters, String> {
        let mut parameters = Parameters::default();
        let mut seen = Vec::new();
        for (name, value) in &self.parameters {
            let (name, value) = (name.as_str(), value.as_deref());
            if seen.contains(&name) {
                return Err(format!("with {} twice", quote(name)));
            }
            seen.push(name);
            let wrong = || format!("with a wrong value of {name}");
            match (name, value) {
                (SERVER_NO_TAKEOVER, None) => parameters.server_no_takeover = true,
                (CLIENT_NO_TAKEOVER, None) => parameters.client_no_takeover = true,
                (SERVER_BITS, Some(value)) => {
                    parameters.server_bits = Some(window_bits(value).ok_or_else(wrong)?);
                }
                (CLIENT_BITS, None) => parameters.client_bits = Some(None),
                (CLIENT_BITS, Some(value)) => {
                    parameters.client_bits = Some(Some(window_bits(value).ok_or_else(wrong)?));
                }
                (SERVER_NO_TAKEOVER | CLIENT_NO_TAKEOVER | SERVER_BITS, _) => {
                    return Err(wrong());
                }
                _ => return Err(format!("with {}, which is unknown", quote(name))),
            }
        }
        Ok(parameters)
    }
}

/// 8 to 15, without a zero in front.
fn window_bits(text: &str) -> Option<u8> {
    let is_plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|bits| is_plain && WINDOW_BITS.contains(bits))
}

/// The extensions of all headers together (RFC 6455 section 9.1); an error is a header that is not
/// written as they are. Empty items of a list are none at all (RFC 9110 section 5.6.1.2).
fn parse(headers: &HeaderMap) -> Result<Vec<Extension<'_>>, &HeaderValue> {
    let mut extensions = Vec::new();
    for value in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
        let text = value.to_str().map_err(|_| value)?;
        // what is in quotes has to be a token, so no separator is
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().filter(|name| is_token(name)).ok_or(value)?;
            let parameters = parts.map(parameter).collect::<Option<_>>().ok_or(value)?;
            extensions.push(Extension { name, parameters });
        }
    }
    Ok(extensions)
}

fn parameter(text: &str) -> Option<(String, Option<String>)> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name.trim(), Some(unquoted(value.trim())?)),
        None => (text, None),
    };
    is_token(name).then(|| (name.to_ascii_lowercase(), value))
}

/// A token, or one in quotes with characters escaped.
fn unquoted(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else {
        return is_token(text).then(|| text.into());
    };
    let mut value = String::new();
    let mut characters = quoted.strip_suffix('"')?.chars();
    while let Some(character) = characters.next() {
        value.push(if character == '\\' { characters.next()? } else { character });
    }
    is_token(&value).then_some(value)
}

#[cfg(all(test, feature = "deflate"))]
mod tests;
