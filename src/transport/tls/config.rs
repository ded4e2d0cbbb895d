//! Whom to trust and who to be.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};

use crate::error::Error;
use crate::failure::{Failure, TlsError};

/// Whom to trust and who to be in TLS (1.2 and 1.3), for either builder.
///
/// | | default | has an effect |
/// | --- | --- | --- |
/// | [`identity_pem`](Self::identity_pem), [`identity_files`](Self::identity_files) | none | for a server, which needs one; for a client whose server asks |
/// | [`root_certificates_pem`](Self::root_certificates_pem), [`_file`](Self::root_certificates_file), [`_der`](Self::root_certificate_der) | Mozilla's | for a client |
/// | [`danger_accept_any_certificate`](Self::danger_accept_any_certificate) | off | for a client |
/// | [`client_authorities_pem`](Self::client_authorities_pem), [`_file`](Self::client_authorities_file) | clients are not asked | for a server |
/// | [`client_certificate_optional`](Self::client_certificate_optional) | off | for a server that asks |
/// | [`alpn`](Self::alpn) | a client's `http/1.1` on `wss://` | for both |
///
/// A client trusts Mozilla's root certificates (`webpki-roots`) and those that are given here; with
/// the crate feature `native-roots` those of the system as well, and with `platform-verifier` the
/// system's own verifier decides instead. What is wrong here, and what can have no effect, is said
/// at the start.
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
    identity: Option<Arc<Identity>>,
    roots: Vec<CertificateDer<'static>>,
    accept_any_certificate: bool,
    client_authorities: Vec<CertificateDer<'static>>,
    client_certificate_optional: bool,
    alpn: Vec<Vec<u8>>,
    /// The first thing that was wrong; said at the start.
    wrong: Option<String>,
}

/// A configuration that is used as it is.
#[derive(Clone)]
enum Config {
    Client(Arc<ClientConfig>),
    Server(Arc<ServerConfig>),
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Tls {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Proves who this side is with this certificate chain and private key, in PEM.
    #[doc(alias("certificate", "private_key"))]
    pub fn identity_pem(mut self, chain: &[u8], key: &[u8]) -> Self {
        match (certificates(chain), PrivateKeyDer::from_pem_slice(key)) {
            (Ok(chain), Ok(key)) => self.identity = Some(Arc::new(Identity { chain, key })),
            (Err(error), _) => self.complain(format!("certificate: {error}")),
            (_, Err(error)) => self.complain(format!("key: {error}")),
        }
        self
    }

    /// The same from PEM files, which are read here. One file may hold both.
    pub fn identity_files(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        let (chain, key) = (self.read(chain.as_ref()), self.read(key.as_ref()));
        self.identity_pem(&chain, &key)
    }

    /// Trusts servers of these root certificates too, in PEM.
    pub fn root_certificates_pem(mut self, pem: &[u8]) -> Self {
        match certificates(pem) {
            Ok(roots) => self.roots.extend(roots),
            Err(error) => self.complain(format!("root certificates: {error}")),
        }
        self
    }

    /// The same from a PEM file, which is read here.
    pub fn root_certificates_file(mut self, path: impl AsRef<Path>) -> Self {
        let pem = self.read(path.as_ref());
        self.root_certificates_pem(&pem)
    }

    /// Trusts servers of this root certificate too, in DER.
    pub fn root_certificate_der(mut self, der: &[u8]) -> Self {
        self.roots.push(CertificateDer::from(der.to_vec()));
        self
    }

    /// **Dangerous**: accepts whatever certificate the server shows, so that anybody between
    /// here and there can read and change everything. For tests on machines of one's own.
    pub fn danger_accept_any_certificate(mut self) -> Self {
        self.accept_any_certificate = true;
        self
    }

    /// Asks each client for a certificate of one of these authorities, in PEM, and refuses those
    /// that have none. The session has it:
    /// [`peer_certificates`](crate::Session::peer_certificates).
    #[doc(alias("mutual_tls", "client_auth"))]
    pub fn client_authorities_pem(mut self, pem: &[u8]) -> Self {
        match certificates(pem) {
            Ok(authorities) => self.client_authorities.extend(authorities),
            Err(error) => self.complain(format!("client authorities: {error}")),
        }
        self
    }

    /// The same from a PEM file, which is read here.
    pub fn client_authorities_file(mut self, path: impl AsRef<Path>) -> Self {
        let pem = self.read(path.as_ref());
        self.client_authorities_pem(&pem)
    }

    /// Lets clients in that show no certificate, too; one of another authority is still refused.
    pub fn client_certificate_optional(mut self) -> Self {
        self.client_certificate_optional = true;
        self
    }

    /// The application protocols (ALPN, RFC 7301) that are offered or taken, the best first: some
    /// brokers want one. Default: a client offers `http/1.1` on `wss://` and none on `tcps://`; a
    /// server takes whatever is offered.
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        if self.alpn.iter().any(|protocol| !(1..=255).contains(&protocol.len())) {
            self.complain("alpn: a protocol has a name of 1 to 255 bytes".into());
        }
        self
    }

    fn complain(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// The file; nothing if it cannot be read, which is then what is wrong.
    fn read(&mut self, path: &Path) -> Vec<u8> {
        std::fs::read(path).unwrap_or_else(|error| {
            self.complain(format!("{}: {error}", path.display()));
            Vec::new()
        })
    }

    /// Refuses what was wrong, and what can have no effect.
    fn check(&self, is_server: bool) -> Result<(), Error> {
        if let Some(wrong) = &self.wrong {
            return Err(invalid(wrong.clone()));
        }
        let identity = ("Tls::identity_pem", self.identity.is_some());
        let of_clients = [
            ("Tls::root_certificates_pem", !self.roots.is_empty()),
            ("Tls::danger_accept_any_certificate", self.accept_any_certificate),
        ];
        let of_servers = [
            ("Tls::client_authorities_pem", !self.client_authorities.is_empty()),
            ("Tls::client_certificate_optional", self.client_certificate_optional),
        ];
        if self.config.is_some() {
            let why = "a whole configuration is used as it is";
            Error::no_effect(why, &[identity, ("Tls::alpn", !self.alpn.is_empty())])?;
            Error::no_effect(why, &of_clients)?;
            return Error::no_effect(why, &of_servers);
        }
        if !is_server {
            return Error::no_effect("a client has no clients", &of_servers);
        }
        Error::no_effect("a server dials nobody", &of_clients)?;
        if self.client_authorities.is_empty() {
            return Error::no_effect("clients are not asked for a certificate", &of_servers);
        }
        Ok(())
    }

    /// The rustls configuration of a server.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, Error> {
        self.check(true)?;
        match &self.config {
            Some(Config::Server(config)) => return Ok(Arc::clone(config)),
            Some(Config::Client(_)) => return Err(invalid("a configuration of a client")),
            None => {}
        }
        let Some(identity) = &self.identity else {
            return Err(invalid(
                "a server shows a certificate: identity_pem() or identity_files()",
            ));
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(error.to_string()))?;
        let builder = if self.client_authorities.is_empty() {
            builder.with_no_client_auth()
        } else {
            let mut authorities = RootCertStore::empty();
            for authority in &self.client_authorities {
                authorities
                    .add(authority.clone())
                    .map_err(|error| invalid(format!("client authorities: {error}")))?;
            }
            let authorities = Arc::new(authorities);
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider);
            let verifier = match self.client_certificate_optional {
                true => verifier.allow_unauthenticated(),
                false => verifier,
            };
            let verifier = verifier.build().map_err(|error| invalid(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        };
        let mut config = builder
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|error| invalid(format!("certificate: {error}")))?;
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
            && self.identity.is_none()
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
            self.verified(builder, &provider).map_err(invalid)?
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                .map_err(|error| invalid(format!("certificate: {error}")))?,
        };
        config.alpn_protocols = match self.alpn.as_slice() {
            [] if is_websocket => vec![b"http/1.1".to_vec()],
            protocols => protocols.to_vec(),
        };
        Ok(Arc::new(config))
    }

    #[cfg(feature = "platform-verifier")]
    fn verified(
        &self,
        builder: rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, String> {
        let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(
            self.roots.clone(),
            Arc::clone(provider),
        )
        .map_err(|error| error.to_string())?;
        Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)))
    }

    #[cfg(not(feature = "platform-verifier"))]
    fn verified(
        &self,
        builder: rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>,
        _: &Arc<CryptoProvider>,
    ) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, String> {
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
        for root in &self.roots {
            roots.add(root.clone()).map_err(|error| format!("root certificates: {error}"))?;
        }
        Ok(builder.with_root_certificates(roots))
    }
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

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("no certificate in the pem".into()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
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
            .field("identity", &self.identity.is_some())
            .field("roots", &self.roots.len())
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
