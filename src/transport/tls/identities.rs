//! Whom a server is, for each client that asks.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::info::dns_names;

/// The certificates that a server can show, by the names in them.
#[derive(Debug, Default)]
pub(super) struct Identities {
    all: Vec<Arc<CertifiedKey>>,
    /// By a name in lower case, or `*` and the rest of it. Several have different kinds of keys.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Identities {
    /// One more; whether there is a client that would be shown it.
    pub(super) fn add(&mut self, identity: CertifiedKey) -> Result<bool, rustls::Error> {
        let identity = Arc::new(identity);
        let kind = |identity: &CertifiedKey| identity.key.algorithm();
        let mut is_shown = self.all.is_empty();
        for name in dns_names(identity.end_entity_cert()?) {
            let same = self.by_name.entry(name.to_lowercase()).or_default();
            if same.iter().all(|other| kind(other) != kind(&identity)) {
                same.push(Arc::clone(&identity));
                is_shown = true;
            }
        }
        self.all.push(identity);
        Ok(is_shown)
    }

    /// Those for this name, which is in lower case.
    fn named(&self, name: &str) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let wildcard = name.split_once('.').map(|(_, domain)| format!("*.{domain}"));
        let wild = wildcard.and_then(|name| self.by_name.get(&name));
        self.by_name.get(name).into_iter().chain(wild).flatten()
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().into_iter().flat_map(|name| self.named(name));
        let is_understood = |identity: &&Arc<CertifiedKey>| {
            identity.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        // if the client understands none, it hears so when one is to be used
        let shown = named.chain(&self.all).find(is_understood).or(self.all.first());
        shown.cloned()
    }
}
