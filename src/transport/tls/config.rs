//! Whom to trust and who to be.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use crate::error::Error;
use crate::failure::{Failure, TlsError};

/// How a client speaks TLS (1.2 and 1.3), for `wss://`.
///
/// The default trusts Mozilla's root certificates (`webpki-roots`); with the crate feature
/// `native-roots` those of the system as well, and with `platform-verifier` the system's own
/// verifier decides instead.
///
/// ```no_run
/// use everlink::config::Tls;
/// use everlink::Client;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = Tls::new().root_certificates_pem(&std::fs::read("ca.pem")?);
/// let client = Client::builder("wss://feed.internal:9001").tls(tls).connect()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Tls {
    roots: Vec<CertificateDer<'static>>,
    identity: Option<Arc<Identity>>,
    config: Option<Arc<ClientConfig>>,
    accept_any_certificate: bool,
    alpn: Vec<Vec<u8>>,
    /// The first thing that was wrong; said when the client starts.
    wrong: Option<String>,
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

    /// Trusts these root certificates too, in PEM.
    pub fn root_certificates_pem(mut self, pem: &[u8]) -> Self {
        match certificates(pem) {
            Ok(roots) => self.roots.extend(roots),
            Err(error) => self.complain(format!("root certificates: {error}")),
        }
        self
    }

    /// Trusts this root certificate too, in DER.
    pub fn root_certificate_der(mut self, der: &[u8]) -> Self {
        self.roots.push(CertificateDer::from(der.to_vec()));
        self
    }

    /// Proves the client's identity with this certificate chain and private key, in PEM.
    pub fn client_identity_pem(mut self, chain: &[u8], key: &[u8]) -> Self {
        match (certificates(chain), PrivateKeyDer::from_pem_slice(key)) {
            (Ok(chain), Ok(key)) => self.identity = Some(Arc::new(Identity { chain, key })),
            (Err(error), _) => self.complain(format!("client certificate: {error}")),
            (_, Err(error)) => self.complain(format!("client key: {error}")),
        }
        self
    }

    /// Offers these application protocols (ALPN, RFC 7301), the best first: some brokers want one.
    /// Default: `http/1.1` on `wss://`, none on `tcps://`. Not used with [`config`](Self::config).
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        if self.alpn.iter().any(|protocol| !(1..=255).contains(&protocol.len())) {
            self.complain("alpn: a protocol has a name of 1 to 255 bytes".into());
        }
        self
    }

    /// Uses this configuration as it is, whatever else was set here.
    pub fn config(mut self, config: Arc<ClientConfig>) -> Self {
        self.config = Some(config);
        self
    }

    /// **Dangerous**: accepts whatever certificate the server shows, so that anybody between
    /// here and there can read and change everything. For tests on machines of one's own.
    pub fn danger_accept_any_certificate(mut self) -> Self {
        self.accept_any_certificate = true;
        self
    }

    fn complain(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// The rustls configuration for WebSockets, or for framed TCP. One for all clients that have
    /// nothing to add to the defaults, whether they ever speak TLS or not, for roots and sessions
    /// take 24 KiB; else one for each client. Either way sessions are resumed.
    pub(crate) fn build(&self, is_websocket: bool) -> Result<Arc<ClientConfig>, Error> {
        static FRAMED: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        static WEBSOCKET: OnceLock<Arc<ClientConfig>> = OnceLock::new();

        if let Some(wrong) = &self.wrong {
            return Err(invalid(wrong.clone()));
        }
        if let Some(config) = &self.config {
            return Ok(Arc::clone(config));
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
                .map_err(|error| invalid(format!("client certificate: {error}")))?,
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
        let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
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

fn invalid(reason: String) -> Error {
    Error::InvalidSetting { setting: "tls", reason }
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
            .field("roots", &self.roots.len())
            .field("client_identity", &self.identity.is_some())
            .field("config", &self.config.is_some())
            .field("accept_any_certificate", &self.accept_any_certificate)
            .finish()
    }
}

/// Says yes to every certificate; signatures are still checked, so that what is accepted is at
/// least the key of whoever shows it.
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
