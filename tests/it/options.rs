//! Settings by key: `Options`.
#![cfg(feature = "serde")]

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::*;
use everlink::config::Options;
use everlink::http::StatusCode;
use everlink::{Answer, Client, Error};
use serde_json::{from_value, json};

/// What closures decide, and what is no setting.
const WITHOUT_A_KEY: [&str; 12] = [
    "on_dropped",
    "on_resend",
    "bearer_auth_with",
    "on_request",
    "login",
    "on_message",
    "on_event",
    "decide",
    "resolver",
    "connector",
    "on_resume",
    "on_presence",
];

/// Setters whose keys are named otherwise.
const RENAMED: [(&str, &str); 24] = [
    ("header", "header.NAME"),
    ("basic_auth", "basic_auth.user"),
    ("fallback", "fallbacks"),
    ("heartbeat.ping_pong", "heartbeat.kind"),
    ("heartbeat.always", "heartbeat.kind"),
    ("heartbeat.message_with", "heartbeat.message"),
    ("heartbeat.answer", "heartbeat.peer_beat"),
    ("heartbeat.answer_with", "heartbeat.peer_beat"),
    ("heartbeat.off", "heartbeat.kind"),
    ("heartbeat.listen", "heartbeat.kind"),
    ("resume.unconfirmed", "resume.unconfirmed_messages"),
    // a closure decides
    ("compression.only_if", "compression"),
    ("tls.identity_pem", "tls.certificate_pem"),
    ("tls.identity_files", "tls.certificate_file"),
    ("tls.root_certificates_pem", "tls.ca_pem"),
    ("tls.root_certificates_file", "tls.ca_file"),
    ("tls.root_certificate_der", "tls.ca_pem"),
    ("tls.client_authorities_pem", "tls.client_ca_pem"),
    ("tls.client_authorities_file", "tls.client_ca_file"),
    ("framing.lines", "framing.kind"),
    ("framing.delimited", "framing.delimiter"),
    ("framing.fixed", "framing.length"),
    ("framing.content_length", "framing.kind"),
    ("framing.raw", "framing.kind"),
];

/// The setters that a source file has: methods from `self` to `Self`, and the rows of tables of settings.
fn setters(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let is_code = |line: &&str| !["//", "#["].iter().any(|start| line.trim().starts_with(start));
    let code: Vec<&str> = text.lines().filter(is_code).collect();
    let code = code.join("\n");
    let methods = code.split("pub fn ").skip(1).filter_map(|method| {
        let head = method.split('{').next()?;
        let sets = head.contains("self") && head.contains("-> Self");
        sets.then(|| head.split(['(', '<']).next().unwrap_or_default().to_owned())
    });
    let rows = code.match_indices(" set(").filter_map(|(place, _)| {
        let row = code[..place].rsplit([';', '{', '}']).next()?;
        Some(row.split(':').next()?.trim().to_owned())
    });
    // not the macros that make them, nor calls of the name
    methods.chain(rows).filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase())).collect()
}

#[test]
fn every_setting_of_both_builders_has_a_key() {
    let (of_client, of_server) = Options::keys();
    let keys: BTreeSet<String> = of_client.iter().chain(&of_server).cloned().collect();
    let has_key = |setter: &str| {
        let renamed = RENAMED.iter().find(|(name, _)| *name == setter).map(|(_, key)| *key);
        keys.contains(renamed.unwrap_or(setter))
    };
    let mut without = Vec::new();
    for file in ["settings/mod.rs", "client/builder.rs", "server/builder.rs"] {
        let found = setters(file);
        assert!(found.len() > 8, "{file}: {found:?}");
        without.extend(found.into_iter().filter(|setter| {
            let is_section = keys.iter().any(|key| key.starts_with(&format!("{setter}.")));
            !is_section && !has_key(setter) && !WITHOUT_A_KEY.contains(&&**setter)
        }));
    }
    for (section, file, least) in [
        ("timeouts", "policy/timeouts.rs", 6),
        ("limits", "policy/limits.rs", 3),
        ("socket", "policy/socket.rs", 6),
        ("outbox", "policy/queue.rs", 4),
        ("inbox", "policy/queue.rs", 4),
        ("backoff", "policy/backoff.rs", 4),
        ("heartbeat", "policy/heartbeat.rs", 8),
        ("resume", "policy/resume.rs", 3),
        ("receive_rate", "policy/receive_rate.rs", 3),
        ("framing", "policy/framing.rs", 5),
        ("framing", "policy/length_field.rs", 5),
        ("websocket_framing", "policy/length_field.rs", 5),
        #[cfg(feature = "deflate")]
        ("compression", "policy/compression.rs", 7),
        #[cfg(feature = "tls")]
        ("tls", "transport/tls/config.rs", 8),
    ] {
        let found = setters(file);
        assert!(found.len() >= least, "{file}: {found:?}");
        let named = found.into_iter().map(|setter| format!("{section}.{setter}"));
        without.extend(named.filter(|setter| !has_key(setter)));
    }
    assert!(without.is_empty(), "no key in src/options for {without:?}");
}

#[test]
fn the_page_for_other_languages_lists_every_key() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide/from_c.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, list) = page.split_once("# Every key").unwrap();
    let list = list.split("\n# ").next().unwrap();
    let (of_client, of_server) = Options::keys();
    let rows: Vec<&str> = list.lines().filter(|line| line.starts_with("| ")).collect();
    let has = |key: &str| {
        rows.iter().any(|row| match key.split_once('.') {
            Some((section, option)) => {
                let section = row.contains(&format!("`{section}.`"));
                section && row.contains(&format!("`{option}`")) || row.contains(&format!("`{key}`"))
            }
            None => row.contains(&format!("`{key}`")),
        })
    };
    let without: Vec<&String> =
        of_client.iter().chain(&of_server).filter(|key| !has(key)).collect();
    assert!(without.is_empty(), "src/guide/from_c.md does not list {without:?}");
}

#[test]
fn a_wrong_option_names_the_key_its_value_and_what_is_allowed() {
    let said = |key: &str, value: &str| {
        let options = Options::new().set(key, value);
        match options.client("ws://127.0.0.1:9") {
            Err(error @ Error::InvalidOption { .. }) => error.to_string(),
            other => panic!("{key} = {value}: {other:?}"),
        }
    };
    for (key, value, allowed) in [
        ("heartbeat.interval", "soon", "500ms"),
        ("heartbeat.interval", "-1s", "500ms"),
        ("heartbeat.interval", "1e300d", "500ms"),
        ("heartbeat.kind", "sometimes", "ping_pong"),
        ("outbox.overflow", "explode", "drop_oldest"),
        ("delivery", "perhaps", "at_least_once"),
        ("outbox.bytes", "1 MB", "MiB"),
        ("outbox.bytes", "99999999999GiB", "MiB"),
        ("max_attempts", "many", "number"),
        ("max_attempts", "-1", "number"),
        ("keep_cookies", "yes", "true or false"),
        ("connect_to", "localhost", "127.0.0.1:0"),
        ("framing.prefix", "u7", "varint"),
    ] {
        let said = said(key, value);
        assert!(said.contains(key) && said.contains(value) && said.contains(allowed), "{said}");
    }
    // keys that are none, or are the other builder's
    assert!(said("heartbeat.intervall", "5s").contains("heartbeat.interval,"));
    assert!(said("max_connections", "5").contains("max_attempts"));
    assert!(Options::new().set("backoff.max", "5s").server().is_err());
    // halves, and what can have no effect
    assert!(said("heartbeat.message", "beat").contains("heartbeat.expects"));
    assert!(said("basic_auth.user", "me").contains("basic_auth.password"));
    assert!(said("framing.delimiter", "|").contains("framing.kind"));
    let forwarded =
        Options::new().set("forwarded.trusted", "127.0.0.1").set("forwarded.header", "via");
    assert!(forwarded.server().unwrap_err().to_string().contains("x_forwarded_for"));
    let rate = Options::new().set("receive_rate.bytes", "99GiB");
    assert!(rate.server().unwrap_err().to_string().contains("receive_rate.bytes"));
    let period = Options::new().set("max_openings_per_address.count", 5);
    let said = period.server().unwrap_err().to_string();
    assert!(said.contains("max_openings_per_address.period"), "{said}");
    let off = Options::new().set("resume", false).set("resume.bytes", 5);
    assert!(off.server().unwrap_err().to_string().contains("resume is false"));
    // a value may be a secret
    let secret = Options::new().set("proxy", "socks://user:hunter2@host");
    assert!(!secret.client("ws://host").unwrap_err().to_string().contains("hunter2"));
    assert!(!format!("{secret:?}").contains("hunter2"));
}

#[test]
fn a_nested_configuration_is_the_same_as_a_flat_one() {
    let nested: Options = from_value(json!({
        "heartbeat": { "interval": 5, "dead_after": "12s" },
        "limits": { "message": 4096 },
        "subprotocols": ["a", "b"],
        "keep_cookies": true,
    }))
    .unwrap();
    let flat: Options = [
        ("heartbeat.interval", "5"),
        ("heartbeat.dead_after", "12s"),
        ("limits.message", "4096"),
        ("subprotocols", "a b"),
        ("keep_cookies", "true"),
    ]
    .into_iter()
    .collect();
    assert_eq!(nested, flat);
    assert!(from_value::<Options>(json!({ "name": null })).is_err());
    let shown = format!("{:?}", nested.client("ws://host").unwrap());
    for part in ["interval: 5s", "dead_after: 12s", "message: Some(4096)"] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn what_is_set_by_key_has_its_effect() {
    let server = Options::new()
        .set("subprotocols", "two one")
        .set("limits.message", "1KiB")
        .set("resume", true)
        .set("proxy_protocol", "10.0.0.0/8")
        .set("forwarded.header", "x_forwarded_for")
        .set("forwarded.trusted", "127.0.0.1 ::1")
        .set("max_openings_per_address.count", 100)
        .set("max_openings_per_address.period", "1s")
        .set("receive_rate.bytes", "1MiB")
        .set("receive_rate.excess", "slow")
        .server()
        .unwrap()
        .on_request(|incoming| match incoming.request().headers().get("x-api-key") {
            Some(key) if key == "k" && incoming.client_addr().ip().to_string() == "203.0.113.9" => {
                Answer::accept()
            }
            _ => Answer::reject(StatusCode::UNAUTHORIZED),
        })
        .bind("127.0.0.1:0", |session| {
            for message in &session {
                let _ = session.send(message);
            }
        })
        .unwrap();
    let url = format!("ws://{}", server.local_addr());
    // how long a session waits is the server's to say
    let refused = Options::new().set("resume.within", "1s").client(&url).unwrap().start();
    assert!(
        matches!(&refused, Err(Error::InvalidSetting { setting, .. }) if *setting == "Resume::within")
    );
    let options: Options = from_value(json!({
        "header.X-Api-Key": "k", "header.X-Forwarded-For": "203.0.113.9", "subprotocols": "one two", "resume": true, "max_attempts": 1,
        "outbox.overflow": "fail", "heartbeat.kind": "always", "stable_after": "1min",
    }))
    .unwrap();
    let client = options.client(&url).unwrap().connect().unwrap();
    let chosen = client.status().subprotocol().map(ToOwned::to_owned);
    assert_eq!(chosen.as_deref(), Some("two"));
    client.send("x").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "x");
    client.close();
    assert!(Client::connect(&url).is_err());
}

#[test]
fn framed_tcp_beats_as_its_options_say() {
    let server = Options::new()
        .set("framing.kind", "delimited")
        .set("framing.delimiter", "|")
        .set("heartbeat.kind", "listen")
        .set("heartbeat.dead_after", "6s")
        .set("heartbeat.peer_beat", "beat")
        .set("heartbeat.peer_answer", "alive 7")
        .server()
        .unwrap()
        .bind("127.0.0.1:0", |session| for _ in &session {})
        .unwrap();
    let client = Options::new()
        .set("framing.kind", "delimited")
        .set("framing.delimiter", "|")
        .set("heartbeat.interval", "20ms")
        .set("heartbeat.dead_after", "20s")
        .set("heartbeat.message", "beat")
        .set("heartbeat.expects", "alive *")
        .client(format!("tcp://{}", server.local_addr()))
        .unwrap()
        .connect()
        .unwrap();
    // the answer is none of the program's, and confirms what went before
    let receipt = client.send_confirmed("data").unwrap();
    receipt.wait(PATIENCE).unwrap();
    assert!(matches!(client.try_recv(), Ok(None)));
    client.close();
}

#[test]
#[cfg(feature = "tls")]
fn a_server_has_several_certificates_and_trust_is_what_the_options_say() {
    let authority = crate::tls::Authority::new();
    let issue = |name| authority.issue(name, |_| {});
    let (one, two) = (issue("one.example"), issue("localhost"));
    let server = Options::new()
        .set("tls.certificate_pem", &one.chain_pem)
        .set("tls.key_pem", &one.key_pem)
        .set("tls.certificate_pem.2", &two.chain_pem)
        .set("tls.key_pem.2", &two.key_pem)
        .server()
        .unwrap()
        .bind("127.0.0.1:0", echo_all)
        .unwrap();
    let trusts = Options::new()
        .set("tls.ca_pem", authority.issuer.pem())
        .set("connect_to", server.local_addr())
        .set("max_attempts", 1);
    for name in ["one.example", "localhost"] {
        let client = trusts.client(format!("wss://{name}")).unwrap().connect().unwrap();
        client.send("x").unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "x");
    }
    let trusts_nobody =
        Options::new().set("connect_to", server.local_addr()).set("max_attempts", 1);
    let refused = trusts_nobody.client("wss://localhost").unwrap().connect();
    assert!(matches!(refused, Err(Error::Connect(_))), "{refused:?}");
    // a half, and one that is left out
    for key in ["tls.certificate_pem.2", "tls.key_file.2"] {
        let half = Options::new()
            .set("tls.certificate_pem", &one.chain_pem)
            .set("tls.key_pem", &one.key_pem)
            .set(key, "x");
        let said = half.server().unwrap_err().to_string();
        assert!(said.contains(key), "{said}");
    }
    let watched = Options::new().set("tls.watch_files", true).server().unwrap();
    assert!(watched.bind("127.0.0.1:0", echo_all).is_err(), "no file is there to be watched");
}
