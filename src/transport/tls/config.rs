//! Whom to trust and who to be.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};

use super::identities::Identities;
use super::pem::Pem;
use crate::error::Error;
use crate::failure::{Failure, TlsError};

/// Whom to trust and who to be in TLS (1.2 and 1.3), for either builder.
///
/// | | default | has an effect |
/// | --- | --- | --- |
/// | [`identity_pem`](Self::identity_pem), [`identity_files`](Self::identity_files) | none | for a server, which needs one and may have several; for a client whose server asks |
/// | [`root_certificates_pem`](Self::root_certificates_pem), [`_file`](Self::root_certificates_file), [`_der`](Self::root_certificate_der) | Mozilla's | for a client |
/// | [`danger_accept_any_certificate`](Self::danger_accept_any_certificate) | off | for a client |
/// | [`client_authorities_pem`](Self::client_authorities_pem), [`_file`](Self::client_authorities_file) | clients are not asked | for a server |
/// | [`client_certificate_optional`](Self::client_certificate_optional) | off | for a server that asks |
/// | [`watch_files`](Self::watch_files) | off | for a server, with files |
/// | [`alpn`](Self::alpn) | a client's `http/1.1` on `wss://` | for both |
///
/// A client trusts Mozilla's root certificates (`webpki-roots`) and those that are given here; with
/// the crate feature `native-roots` those of the system as well, and with `platform-verifier` the
/// system's own verifier decides instead. Files are read at the start, and what is wrong, or can have no
/// effect, is said there.
///
/// A whole configuration of rustls is used as it is: `Tls::from(config)`, or just `tls(config)`.
///
/// ```no_run
/// use everlink::config::Tls;
/// use everlink::{Client, Server};
///
/// # fn main() -> Result<(), everlink::Error> {
/// let server = Server::builder()
///     .tls(Tls::new().identity_files("cert.pem", "key.pem"))
///     .bind("0.0.0.0:9001", |session| drop(session.send("hello")))?;
/// let client = Client::builder("wss://feed.internal:9001")
///     .tls(Tls::new().root_certificates_file("ca.pem"))
///     .connect()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Tls {
    config: Option<Config>,
    /// Each a chain and its key.
    identities: Vec<(Pem, Pem)>,
    roots: Vec<Pem>,
    roots_der: Vec<CertificateDer<'static>>,
    accept_any_certificate: bool,
    client_authorities: Vec<Pem>,
    client_certificate_optional: bool,
    watch_files: bool,
    alpn: Vec<Vec<u8>>,
}

/// A configuration that is used as it is.
#[derive(Clone)]
enum Config {
    Client(Arc<ClientConfig>),
    Server(Arc<ServerConfig>),
}

impl Tls {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Proves who this side is with this certificate chain and private key, in PEM.
    ///
    /// A server may have several: it shows each client the first that is for the name which the client
    /// asks for (SNI, RFC 6066 section 3), one for that very name before one for all names of a domain
    /// (`*.example.org`), and the first of all where none is for that name or the client asks for none. Of
    /// two for one name the client gets the first whose kind of key it can verify. The names are those in the
    /// certificate, as subject alternative names.
    #[doc(alias("certificate", "private_key", "sni"))]
    pub fn identity_pem(mut self, chain: &[u8], key: &[u8]) -> Self {
        self.identities.push((Pem::given(chain), Pem::given(key)));
        self
    }

    /// The same from PEM files. One file may hold both.
    pub fn identity_files(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.identities.push((Pem::file(chain), Pem::file(key)));
        self
    }

    /// Trusts servers of these root certificates too, in PEM.
    pub fn root_certificates_pem(mut self, pem: &[u8]) -> Self {
        self.roots.push(Pem::given(pem));
        self
    }

    /// The same from a PEM file.
    pub fn root_certificates_file(mut self, path: impl AsRef<Path>) -> Self {
        self.roots.push(Pem::file(path));
        self
    }

    /// Trusts servers of this root certificate too, in DER.
    pub fn root_certificate_der(mut self, der: &[u8]) -> Self {
        self.roots_der.push(CertificateDer::from(der.to_vec()));
        self
    }

    /// **Dangerous**: accepts whatever certificate the server shows, so that anybody between
    /// here and there can read and change everything. For tests on machines of one's own.
    pub fn danger_accept_any_certificate(mut self) -> Self {
        self.accept_any_certificate = true;
        self
    }

    /// Asks each client for a certificate of one of these authorities, in PEM, and refuses those
    /// that have none. Who it is, the session says: [`TlsInfo`](crate::TlsInfo).
    #[doc(alias("mutual_tls", "client_auth"))]
    pub fn client_authorities_pem(mut self, pem: &[u8]) -> Self {
        self.client_authorities.push(Pem::given(pem));
        self
    }

    /// The same from a PEM file.
    pub fn client_authorities_file(mut self, path: impl AsRef<Path>) -> Self {
        self.client_authorities.push(Pem::file(path));
        self
    }

    /// Lets clients in that show no certificate, too; one of another authority is still refused.
    pub fn client_certificate_optional(mut self) -> Self {
        self.client_certificate_optional = true;
        self
    }

    /// Has a server look for what has changed in the files that are named here, and take it for connections
    /// from then on. It looks before a handshake, at most once a second; those that are there, or are
    /// opening, stay as they are. Files that do not make a whole, as those that are half written, change
    /// nothing, and are logged and counted once
    /// ([`ServerStats::tls_reload_failures`](crate::stats::ServerStats::tls_reload_failures)).
    ///
    /// ```no_run
    /// use everlink::Server;
    /// use everlink::config::Tls;
    ///
    /// let tls = Tls::new().identity_files("fullchain.pem", "privkey.pem").watch_files();
    /// let server = Server::builder().tls(tls).bind("0.0.0.0:443", |session| drop(session.recv()))?;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// [`ServerHandle::set_tls`](crate::ServerHandle::set_tls) does it by call.
    #[doc(alias("reload", "rotate", "renew"))]
    pub fn watch_files(mut self) -> Self {
        self.watch_files = true;
        self
    }

    /// The application protocols (ALPN, RFC 7301) that are offered or taken, the best first: some
    /// brokers want one. Default: a client offers `http/1.1` on `wss://` and none on `tcps://`; a
    /// server takes whatever is offered, and says nothing of it. One that has a list lets in who offers
    /// nothing, and refuses who offers only others. What was agreed on
    /// [`TlsInfo::alpn`](crate::TlsInfo::alpn) says.
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// The files from which a server has what it shows and asks for.
    fn files(&self) -> impl Iterator<Item = &Path> {
        let identities = self.identities.iter().flat_map(|(chain, key)| [chain, key]);
        identities.chain(&self.client_authorities).filter_map(Pem::path)
    }

    /// Whether a server is to look for what has changed in the files.
    pub(crate) fn watches_files(&self) -> bool {
        self.watch_files
    }

    /// A number for what is in the files at the moment. It is of their content: times have a grain, and
    /// links are put elsewhere.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for file in self.files() {
            std::fs::read(file).map_err(|error| error.kind()).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Refuses what is wrong, and what can have no effect.
    fn check(&self, is_server: bool) -> Result<(), Error> {
        if self.alpn.iter().any(|protocol| !(1..=255).contains(&protocol.len())) {
            return Err(invalid("alpn: a protocol has a name of 1 to 255 bytes"));
        }
        let identity = ("Tls::identity_pem", !self.identities.is_empty());
        let has_roots = !(self.roots.is_empty() && self.roots_der.is_empty());
        let of_clients = [
            ("Tls::root_certificates_pem", has_roots),
            ("Tls::danger_accept_any_certificate", self.accept_any_certificate),
        ];
        let of_servers = [
            ("Tls::client_authorities_pem", !self.client_authorities.is_empty()),
            ("Tls::client_certificate_optional", self.client_certificate_optional),
        ];
        let watch = [("Tls::watch_files", self.watch_files)];
        if self.config.is_some() {
            let why = "a whole configuration is used as it is";
            Error::no_effect(why, &[identity, ("Tls::alpn", !self.alpn.is_empty())])?;
            Error::no_effect(why, &of_clients)?;
            Error::no_effect(why, &of_servers)?;
            return Error::no_effect(why, &watch);
        }
        if !is_server {
            Error::no_effect("a client has no clients", &of_servers)?;
            Error::no_effect("a client reads its files once", &watch)?;
            let why = "a client has one identity, and this is another";
            return Error::no_effect(why, &[("Tls::identity_pem", self.identities.len() > 1)]);
        }
        Error::no_effect("a server dials nobody", &of_clients)?;
        if self.files().next().is_none() {
            Error::no_effect("nothing comes from a file", &watch)?;
        }
        if self.client_authorities.is_empty() {
            return Error::no_effect("clients are not asked for a certificate", &of_servers);
        }
        Ok(())
    }

    /// The rustls configuration of a server, from files as they are now.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, Error> {
        self.check(true)?;
        match &self.config {
            Some(Config::Server(config)) => return Ok(Arc::clone(config)),
            Some(Config::Client(_)) => return Err(invalid("a configuration of a client")),
            None => {}
        }
        if self.identities.is_empty() {
            return Err(invalid(
                "a server shows a certificate: identity_pem() or identity_files()",
            ));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(error.to_string()))?;
        let builder = if self.client_authorities.is_empty() {
            builder.with_no_client_auth()
        } else {
            let mut authorities = RootCertStore::empty();
            for pem in &self.client_authorities {
                for authority in pem.certificates("client authorities").map_err(invalid)? {
                    authorities
                        .add(authority)
                        .map_err(|error| invalid(format!("client authorities: {error}")))?;
                }
            }
            let (authorities, provider) = (Arc::new(authorities), Arc::clone(&provider));
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider);
            let verifier = match self.client_certificate_optional {
                true => verifier.allow_unauthenticated(),
                false => verifier,
            };
            let verifier = verifier.build().map_err(|error| invalid(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        };
        let mut identities = Identities::default();
        for identity in &self.identities {
            let (chain, key) = parts(identity)?;
            let wrong = |error: rustls::Error| invalid(identity.0.wrong("certificate", error));
            let key = CertifiedKey::from_der(chain, key, &provider).map_err(wrong)?;
            let is_shown = identities.add(key).map_err(wrong)?;
            let why = "there are others for all names in this certificate, or it has none";
            Error::no_effect(why, &[("Tls::identity_pem", !is_shown)])?;
        }
        let mut config = builder.with_cert_resolver(Arc::new(identities));
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(Arc::new(config))
    }

    /// The rustls configuration of a client for WebSockets, or for framed TCP. One for all clients that have
    /// nothing to add to the defaults, whether they ever speak TLS or not, for roots and sessions
    /// take 24 KiB; else one for each client. Either way sessions are resumed.
    pub(crate) fn client(&self, is_websocket: bool) -> Result<Arc<ClientConfig>, Error> {
        static FRAMED: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        static WEBSOCKET: OnceLock<Arc<ClientConfig>> = OnceLock::new();

        self.check(false)?;
        match &self.config {
            Some(Config::Client(config)) => return Ok(Arc::clone(config)),
            Some(Config::Server(_)) => return Err(invalid("a configuration of a server")),
            None => {}
        }
        if self.roots.is_empty()
            && self.roots_der.is_empty()
            && self.identities.is_empty()
            && self.alpn.is_empty()
            && !self.accept_any_certificate
        {
            let default = if is_websocket { &WEBSOCKET } else { &FRAMED };
            if let Some(config) = default.get() {
                return Ok(Arc::clone(config));
            }
            let config = self.make(is_websocket)?;
            return Ok(Arc::clone(default.get_or_init(|| config)));
        }
        self.make(is_websocket)
    }

    fn make(&self, is_websocket: bool) -> Result<Arc<ClientConfig>, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(error.to_string()))?;
        let builder = if self.accept_any_certificate {
            log::warn!("any TLS certificate is accepted: nothing on this connection is secret");
            let verifier = Arc::new(AcceptAny(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        } else {
            let mut roots = self.roots_der.clone();
            for pem in &self.roots {
                roots.extend(pem.certificates("root certificates").map_err(invalid)?);
            }
            let mut checked = RootCertStore::empty();
            for root in &roots {
                let added = checked.add(root.clone());
                added.map_err(|error| invalid(format!("root certificates: {error}")))?;
            }
            verified(builder, roots, &provider).map_err(invalid)?
        };
        let mut config = match self.identities.first() {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = parts(identity)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| invalid(format!("certificate: {error}")))?
            }
        };
        config.alpn_protocols = match self.alpn.as_slice() {
            [] if is_websocket => vec![b"http/1.1".to_vec()],
            protocols => protocols.to_vec(),
        };
        Ok(Arc::new(config))
    }
}

type Unverified = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;
type Verified = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

#[cfg(feature = "platform-verifier")]
fn verified(
    builder: Unverified,
    roots: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Verified, String> {
    use rustls_platform_verifier::Verifier;

    let provider = Arc::clone(provider);
    #[cfg(not(target_os = "android"))]
    let verifier = Verifier::new_with_extra_roots(roots, provider);
    #[cfg(target_os = "android")]
    let verifier = match roots[..] {
        [] => Verifier::new(provider),
        _ => return Err("root: Android's verifier takes no more roots than the system's".into()),
    };
    let verifier = verifier.map_err(|error| error.to_string())?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)))
}

#[cfg(not(feature = "platform-verifier"))]
fn verified(
    builder: Unverified,
    more: Vec<CertificateDer<'static>>,
    _: &Arc<CryptoProvider>,
) -> Result<Verified, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    #[cfg(feature = "native-roots")]
    let system = rustls_native_certs::load_native_certs();
    #[cfg(feature = "native-roots")]
    for error in system.errors {
        log::warn!("some of the system's root certificates are missing: {error}");
    }
    #[cfg(feature = "native-roots")]
    for root in system.certs {
        // systems carry roots that no verifier takes; they are not this program's concern
        let _ = roots.add(root);
    }
    for root in more {
        roots.add(root).map_err(|error| error.to_string())?;
    }
    Ok(builder.with_root_certificates(roots))
}

impl From<Arc<ClientConfig>> for Tls {
    /// Uses this configuration of a client as it is.
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { config: Some(Config::Client(config)), ..Self::default() }
    }
}

impl From<Arc<ServerConfig>> for Tls {
    /// Uses this configuration of a server as it is.
    fn from(config: Arc<ServerConfig>) -> Self {
        Self { config: Some(Config::Server(config)), ..Self::default() }
    }
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::setting("tls", reason)
}

/// The chain and the key.
fn parts(
    (chain, key): &(Pem, Pem),
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let chain = chain.certificates("certificate").map_err(invalid)?;
    Ok((chain, key.key().map_err(invalid)?))
}

/// A connection that is about to shake hands with the server of this name.
pub(crate) fn client_connection(
    config: &Arc<ClientConfig>,
    host: &str,
) -> Result<ClientConnection, Failure> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| Failure::Tls(TlsError::Protocol(Box::new(error))))?;
    ClientConnection::new(Arc::clone(config), name)
        .map_err(|error| Failure::Tls(TlsError::from(error)))
}

/// The same trust without the client's identity, and without sessions that were begun with it:
/// for a server that the program has not named.
pub(crate) fn without_identity(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(Nobody);
    config.resumption = Resumption::default();
    Arc::new(config)
}

#[derive(Debug)]
struct Nobody;

impl ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("config", &self.config.is_some())
            .field("identities", &self.identities.len())
            .field("roots", &(self.roots.len() + self.roots_der.len()))
            .field("accept_any_certificate", &self.accept_any_certificate)
            .field("client_authorities", &self.client_authorities.len())
            .finish_non_exhaustive()
    }
}

/// Accepts every certificate. Signatures are still checked: the server has the key of the
/// certificate that it shows.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
