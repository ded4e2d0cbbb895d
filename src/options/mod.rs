//! Settings by key: both builders from one flat map of texts.

mod reader;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::client::{Client, ClientBuilder};
use crate::dial::Proxy;
use crate::error::Error;
use crate::message::MessageRef;
#[cfg(feature = "deflate")]
use crate::policy::Compression;
use crate::policy::{
    Backoff, Framing, Heartbeat, LengthField, Limits, Prefix, Queue, ReceiveRate, Resume,
    SocketOptions, Timeouts,
};
use crate::server::{ForwardedHeader, Server, ServerBuilder};
#[cfg(feature = "tls")]
use crate::transport::tls::Tls;
use reader::{Reader, address, flag, list, number, size, text, time, word};

/// Settings of a client or a server by key, each value as a text: what configuration files, environments
/// and programs in other languages have. With the feature `serde`.
///
/// A builder comes of it, which takes closures and whatever else there is; a later setter replaces what
/// was set here. A key has the name of the builder's method, behind a dot the name of the option there:
/// `heartbeat.interval`, `outbox.overflow`. [`keys`](Self::keys) says which there are, and so does
/// [the guide](crate::guide::from_c#every-key).
///
/// It is read from whatever serde reads: nested tables are joined by dots, lists by spaces, and numbers and
/// booleans are their texts.
///
/// ```
/// use everlink::config::Options;
///
/// let options: Options = everlink::serde_json::from_str(
///     r#"{
///         "heartbeat": { "interval": "5s", "dead_after": "12s" },
///         "backoff.max": "1min",
///         "subprotocols": ["ocpp2.0.1", "ocpp1.6"],
///         "header.X-Api-Key": "...",
///         "max_attempts": 5
///     }"#,
/// )?;
/// let client = options.client("ws://127.0.0.1:1")?.on_event(|_, event| println!("{event}")).start()?;
/// # let _ = client;
/// // the key, the value and what is allowed
/// let wrong = Options::new().set("heartbeat.interval", "soon").server().unwrap_err();
/// assert!(wrong.to_string().contains(r#"heartbeat.interval: "soon""#), "{wrong}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Values
///
/// | | |
/// | --- | --- |
/// | a time | a number and `ms`, `s`, `min`, `h` or `d`: `500ms`, `1.5s`; without a unit it is seconds |
/// | a size | a number of bytes, or one and `KiB`, `MiB` or `GiB` |
/// | a switch | `true` or `false` |
/// | a list | words with spaces between |
/// | a word | that of the configuration: `drop_oldest`, `at_least_once`, `writer_thread` |
///
/// # Keys that are not named as the methods are
///
/// | | |
/// | --- | --- |
/// | `heartbeat.kind` | `ping` (a client's and server's default on a WebSocket), `always`, `ping_pong`, `listen`, `off` |
/// | `heartbeat.message`, `heartbeat.expects` | sent each interval instead of a ping, and what the answer to it is: the whole text, or how it begins, with `*` behind that |
/// | `heartbeat.peer_beat`, `heartbeat.peer_answer` | a message of the peer's, and what it is answered with |
/// | `framing.kind`, `websocket_framing.kind` | `lines` (the default), `delimited` (by `.delimiter`), `fixed` (of `.length`), `length_prefixed` (by `.prefix`: `u8` to `u64`, `varint`), `content_length`, `raw` |
/// | `compression`, `resume` | switches: `true` has the defaults, as any key below them does |
/// | `resume.unconfirmed_messages`, `resume.unconfirmed_bytes` | both together |
/// | `tls.ca_file`, `tls.ca_pem` | trusted besides; the file, or what is in one |
/// | `tls.certificate_file`, `tls.key_file`, `tls.certificate_pem`, `tls.key_pem` | who this side is; a server's others end in `.2`, `.3` and on |
/// | `tls.client_ca_file`, `tls.client_ca_pem` | whose certificates a server asks its clients for |
/// | `basic_auth.user`, `basic_auth.password`, `header.NAME` | of a client's request |
/// | `proxy`, `proxy_from_env` | a URL; a switch |
/// | `fallbacks` | a list of URLs |
/// | `forwarded.header`, `forwarded.trusted` | `forwarded` or `x_forwarded_for`; a list of proxies |
/// | `max_openings_per_address.count`, `max_openings_per_address.period` | both together |
///
/// What a closure decides has no key.
#[derive(Clone, Default, PartialEq, Eq)]
#[must_use = "options do nothing until client() or server()"]
pub struct Options {
    values: BTreeMap<String, String>,
}

/// Calls setters of a value for those of its keys that are there. The value is made for the first.
macro_rules! section {
    ($from:ident, $section:expr, $value:expr, {$($option:ident: $parse:expr),* $(,)?}
     $(switches {$($switch:ident),*})?) => {{
        let mut value = None;
        $(if let Some(option) = $from.take(&format!("{}.{}", $section, stringify!($option)), $parse)? {
            value = Some(value.unwrap_or_else(|| $value).$option(option));
        })*
        $($(if $from.take(&format!("{}.{}", $section, stringify!($switch)), flag)? == Some(true) {
            value = Some(value.unwrap_or_else(|| $value).$switch());
        })*)?
        value
    }};
}

/// The same for a builder.
macro_rules! plain {
    ($from:ident, $builder:ident, {$($option:ident: $parse:expr),* $(,)?}
     $(switches {$($switch:ident),*})?) => {
        $(if let Some(option) = $from.take(stringify!($option), $parse)? {
            $builder = $builder.$option(option);
        })*
        $($(if $from.take(stringify!($switch), flag)? == Some(true) {
            $builder = $builder.$switch();
        })*)?
    };
}

/// The values that a builder has a setter for, each if one of its keys is there.
macro_rules! sections {
    ($from:ident, $builder:ident, {$($(#[$meta:meta])* $setter:ident: $value:expr),* $(,)?}) => {
        $($(#[$meta])* if let Some(value) = $value { $builder = $builder.$setter(value); })*
    };
}

/// What both builders have.
macro_rules! both {
    ($from:ident, $builder:ident) => {
        plain!($from, $builder, {
            name: text, stack_size: size, max_deliveries: number, subprotocols: list,
        });
        sections!($from, $builder, {
            timeouts: section!($from, "timeouts", Timeouts::new(), {
                dns: time, connect: time, handshake: time, login: time, write: time, close: time,
            }),
            limits: section!($from, "limits", Limits::new(), {
                message: size, frame: size, fragment: size,
            }),
            socket: section!($from, "socket", SocketOptions::new(), {
                keepalive: time, user_timeout: time, send_buffer: size, receive_buffer: size,
                local_address: address, writes: word,
            }),
            outbox: section!($from, "outbox", Queue::new(), {
                messages: number, bytes: size, message_ttl: time, overflow: word,
            }),
            inbox: section!($from, "inbox", Queue::new(), {
                messages: number, bytes: size, message_ttl: time, overflow: word,
            }),
            heartbeat: heartbeat($from)?,
            framing: framing($from, "framing")?,
            resume: resume($from)?,
            #[cfg(feature = "deflate")]
            compression: compression($from)?,
            #[cfg(feature = "tls")]
            tls: tls($from)?,
        });
    };
}

impl Options {
    /// None, so that everything has its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets this key to this value, replacing one that it had. What is wrong with either is said when
    /// a builder is made.
    pub fn set(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        self.values.insert(key.into(), value.to_string());
        self
    }

    /// A client's builder with these settings.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] names the key, its value and what is allowed. What a value means beside the others
    /// is checked at the start, as always.
    pub fn client(&self, url: impl AsRef<str>) -> Result<ClientBuilder, Error> {
        self.read(|from| client(from, Client::builder(url)))
    }

    /// A server's builder with these settings.
    ///
    /// # Errors
    ///
    /// As for [`client`](Self::client).
    pub fn server(&self) -> Result<ServerBuilder, Error> {
        self.read(|from| server(from, Server::builder()))
    }

    /// The heartbeat that these say, for [`set_heartbeat`](crate::Sender::set_heartbeat), if they say any.
    ///
    /// # Errors
    ///
    /// As for [`client`](Self::client), for a key that is not `heartbeat` either.
    pub fn heartbeat(&self) -> Result<Option<Heartbeat>, Error> {
        self.read(heartbeat)
    }

    /// Both. Where both have a key, the value is the other's.
    pub fn merge(mut self, other: Self) -> Self {
        self.values.extend(other.values);
        self
    }

    /// Every key: those of a client, and those of a server.
    pub fn keys() -> (Vec<String>, Vec<String>) {
        let nothing = Self::new();
        let (mut of_client, mut of_server) =
            (Reader::new(&nothing.values), Reader::new(&nothing.values));
        // nothing is read, so nothing can be wrong
        let _ = client(&mut of_client, Client::builder(""));
        let _ = server(&mut of_server, Server::builder());
        (of_client.known(), of_server.known())
    }

    fn read<T>(&self, read: impl FnOnce(&mut Reader<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let mut reader = Reader::new(&self.values);
        let value = read(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

fn client(from: &mut Reader<'_>, mut builder: ClientBuilder) -> Result<ClientBuilder, Error> {
    both!(from, builder);
    plain!(from, builder, {
        max_attempts: number, stable_after: time, max_redirects: number, max_retry_after: time,
        delivery: word, connect_to: address,
    } switches { keep_cookies, shuffle_endpoints, proxy_from_env });
    sections!(from, builder, { backoff: backoff(from)? });
    for (name, value) in from.take_all("header.") {
        builder = builder.header(name, value);
    }
    if let Some((user, password)) = from.pair("basic_auth.user", "basic_auth.password")? {
        builder = builder.basic_auth(&user, &password);
    }
    if let Some(token) = from.take("bearer_auth", text)? {
        builder = builder.bearer_auth(&token);
    }
    for url in from.take("fallbacks", list)?.unwrap_or_default() {
        builder = builder.fallback(url);
    }
    if let Some(url) = from.take("proxy", text)? {
        // its error does not repeat the URL, which may hold a password
        let proxy = Proxy::new(url).map_err(|error| Error::option("proxy", error.to_string()))?;
        builder = builder.proxy(proxy);
    }
    Ok(builder)
}

fn server(from: &mut Reader<'_>, mut builder: ServerBuilder) -> Result<ServerBuilder, Error> {
    both!(from, builder);
    plain!(from, builder, {
        max_connections: number, max_connections_per_address: number, backlog: number, max_topics: number,
        max_topic_bytes: size, memory_limit: size, slow_session: word, origins: list, host_names: list,
        proxy_protocol: list,
    } switches { any_origin });
    sections!(from, builder, {
        websocket_framing: framing(from, "websocket_framing")?,
        receive_rate: section!(from, "receive_rate", ReceiveRate::new(), {
            messages: number, bytes: size, excess: word,
        }),
    });
    let openings = from.both(
        ("max_openings_per_address.count", number::<u32>),
        ("max_openings_per_address.period", time),
    )?;
    if let Some((count, period)) = openings {
        builder = builder.max_openings_per_address(count, period);
    }
    let forwarded =
        from.both(("forwarded.header", forwarded_header), ("forwarded.trusted", list))?;
    if let Some((header, trusted)) = forwarded {
        builder = builder.forwarded(header, trusted);
    }
    Ok(builder)
}

fn forwarded_header(value: &str) -> Result<ForwardedHeader, String> {
    match value {
        "forwarded" => Ok(ForwardedHeader::Forwarded),
        "x_forwarded_for" => Ok(ForwardedHeader::XForwardedFor),
        _ => Err("one of forwarded, x_forwarded_for".into()),
    }
}

fn backoff(from: &mut Reader<'_>) -> Result<Option<Backoff>, Error> {
    let fixed = from.take("backoff.fixed", time)?;
    let usual = || fixed.map_or_else(Backoff::exponential, Backoff::fixed);
    let backoff = section!(from, "backoff", usual(), {
        first: time, initial: time, max: time, jitter: word,
    });
    Ok(backoff.or(fixed.map(Backoff::fixed)))
}

fn heartbeat(from: &mut Reader<'_>) -> Result<Option<Heartbeat>, Error> {
    const KINDS: [&str; 5] = ["ping", "always", "ping_pong", "listen", "off"];
    let kind = from.one_of("heartbeat.kind", &KINDS)?;
    let limit = from.take("heartbeat.dead_after", time)?;
    let usual = || match kind.unwrap_or_default() {
        "always" => Heartbeat::default().always(),
        "ping_pong" => Heartbeat::ping_pong(),
        "listen" => Heartbeat::listen(limit.unwrap_or(Duration::from_secs(30))),
        "off" => Heartbeat::off(),
        _ => Heartbeat::default(),
    };
    let mut heartbeat = section!(from, "heartbeat", usual(), { interval: time })
        .or_else(|| (kind.is_some() || limit.is_some()).then(usual));
    if let (Some(limit), false) = (limit, kind == Some("listen")) {
        heartbeat = heartbeat.map(|heartbeat| heartbeat.dead_after(limit));
    }
    if let Some((message, expected)) = from.pair("heartbeat.message", "heartbeat.expects")? {
        let is_answer = move |answer: &MessageRef<'_>| match expected.strip_suffix('*') {
            Some(start) => answer.as_bytes().starts_with(start.as_bytes()),
            None => answer.as_bytes() == expected.as_bytes(),
        };
        heartbeat = Some(heartbeat.unwrap_or_default().message(message, is_answer));
    }
    if from.take("heartbeat.when_idle", flag)? == Some(true) {
        heartbeat = Some(heartbeat.unwrap_or_default().when_idle());
    }
    if let Some((beat, answer)) = from.pair("heartbeat.peer_beat", "heartbeat.peer_answer")? {
        heartbeat = Some(heartbeat.unwrap_or_default().answer(beat, answer));
    }
    Ok(heartbeat)
}

fn framing(from: &mut Reader<'_>, section: &str) -> Result<Option<Framing>, Error> {
    const KINDS: [&str; 6] =
        ["lines", "delimited", "fixed", "length_prefixed", "content_length", "raw"];
    let key = |option: &str| format!("{section}.{option}");
    let kind = from.one_of(&key("kind"), &KINDS)?;
    let delimiter = from.take(&key("delimiter"), text)?;
    let length = from.take(&key("length"), size)?;
    let prefix = from.take(&key("prefix"), word::<Prefix>)?;
    let usual = || LengthField::new(prefix.unwrap_or(Prefix::U32));
    let field = section!(from, section, usual(), {
        offset: size, adjustment: number, strip: size,
    } switches { little_endian, inclusive });
    for (option, of, is_set) in [
        ("delimiter", "delimited", delimiter.is_some()),
        ("length", "fixed", length.is_some()),
        ("prefix", "length_prefixed", prefix.is_some() || field.is_some()),
    ] {
        if is_set && kind != Some(of) {
            return Err(Error::option(&key(option), format!("only where {section}.kind is {of}")));
        }
    }
    let field = field.unwrap_or_else(usual);
    let usual = || match kind.unwrap_or_default() {
        "delimited" => Framing::delimited(delimiter.as_deref().unwrap_or_default()),
        "fixed" => Framing::fixed(length.unwrap_or_default()),
        "length_prefixed" => Framing::length_field(field),
        "content_length" => Framing::content_length(),
        "raw" => Framing::raw(),
        _ => Framing::lines(),
    };
    let framing = section!(from, section, usual(), { max_length: size }
        switches { keep_delimiter, text });
    Ok(framing.or_else(|| kind.map(|_| usual())))
}

fn resume(from: &mut Reader<'_>) -> Result<Option<Resume>, Error> {
    let is_on = from.switch("resume")?;
    let within = from.take("resume.within", time)?;
    let usual = || within.map_or_else(Resume::new, Resume::within);
    let resume = section!(from, "resume", usual(), { sessions: number, bytes: size });
    let unconfirmed = from.both(
        ("resume.unconfirmed_messages", number::<usize>),
        ("resume.unconfirmed_bytes", size),
    )?;
    let resume = match unconfirmed {
        Some((messages, bytes)) => Some(resume.unwrap_or_else(usual).unconfirmed(messages, bytes)),
        None => resume,
    };
    Ok(resume.or_else(|| (is_on || within.is_some()).then(usual)))
}

#[cfg(feature = "deflate")]
fn compression(from: &mut Reader<'_>) -> Result<Option<Compression>, Error> {
    let is_on = from.switch("compression")?;
    let compression = section!(from, "compression", Compression::new(), {
        level: number, threshold: size, send_window_bits: number, receive_window_bits: number,
    } switches { no_send_takeover, no_receive_takeover });
    Ok(compression.or_else(|| is_on.then(Compression::new)))
}

#[cfg(feature = "tls")]
fn tls(from: &mut Reader<'_>) -> Result<Option<Tls>, Error> {
    let mut tls = section!(from, "tls", Tls::new(), { alpn: list }
        switches { danger_accept_any_certificate, client_certificate_optional, watch_files });
    let mut change = |with: &dyn Fn(Tls) -> Tls| tls = Some(with(tls.take().unwrap_or_default()));
    if let Some(path) = from.take("tls.ca_file", text)? {
        change(&|tls| tls.root_certificates_file(&path));
    }
    if let Some(pem) = from.take("tls.ca_pem", text)? {
        change(&|tls| tls.root_certificates_pem(pem.as_bytes()));
    }
    if let Some(path) = from.take("tls.client_ca_file", text)? {
        change(&|tls| tls.client_authorities_file(&path));
    }
    if let Some(pem) = from.take("tls.client_ca_pem", text)? {
        change(&|tls| tls.client_authorities_pem(pem.as_bytes()));
    }
    for number in 1.. {
        let end = if number == 1 { String::new() } else { format!(".{number}") };
        let pair =
            |what: &str| (format!("tls.certificate_{what}{end}"), format!("tls.key_{what}{end}"));
        let ((chain, key), (chain_pem, key_pem)) = (pair("file"), pair("pem"));
        let (files, pems) = (from.pair(&chain, &key)?, from.pair(&chain_pem, &key_pem)?);
        if files.is_none() && pems.is_none() {
            break;
        }
        if let Some((chain, key)) = files {
            change(&|tls| tls.identity_files(&chain, &key));
        }
        if let Some((chain, key)) = pems {
            change(&|tls| tls.identity_pem(chain.as_bytes(), key.as_bytes()));
        }
    }
    Ok(tls)
}

/// The text of a value; nothing for what has none.
fn flat(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(all) => {
            all.into_iter().map(flat).collect::<Option<Vec<_>>>().map(|all| all.join(" "))
        }
        Value::Null | Value::Object(_) => None,
    }
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut values = BTreeMap::new();
        let mut left: Vec<_> = BTreeMap::<String, Value>::deserialize(from)?.into_iter().collect();
        while let Some((key, value)) = left.pop() {
            match value {
                Value::Object(nested) => {
                    left.extend(
                        nested.into_iter().map(|(end, value)| (format!("{key}.{end}"), value)),
                    );
                }
                value => match flat(value) {
                    Some(value) => drop(values.insert(key, value)),
                    None => return Err(D::Error::custom(format_args!("{key} has no value"))),
                },
            }
        }
        Ok(Self { values })
    }
}

impl<K: Into<String>, V: ToString> FromIterator<(K, V)> for Options {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(values: I) -> Self {
        values.into_iter().fold(Self::new(), |options, (key, value)| options.set(key, value))
    }
}

/// The keys alone: a value may be a secret.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}
