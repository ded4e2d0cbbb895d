//! Certificates and keys as they are handed over: in PEM, or in a file of it.

use std::borrow::Cow;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

#[derive(Clone)]
pub(super) enum Pem {
    Given(Vec<u8>),
    File(PathBuf),
}

impl Pem {
    pub(super) fn given(pem: &[u8]) -> Self {
        Self::Given(pem.to_vec())
    }

    pub(super) fn file(path: impl AsRef<Path>) -> Self {
        Self::File(path.as_ref().to_owned())
    }

    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Given(_) => None,
            Self::File(path) => Some(path),
        }
    }

    /// All certificates in it, of which there is one at least. `what` they are is in the error.
    pub(super) fn certificates(&self, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
        self.parse(what, |pem| {
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            match found {
                Ok(found) if found.is_empty() => Err("no certificate in the pem".to_owned()),
                found => found.map_err(|error| error.to_string()),
            }
        })
    }

    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        self.parse("key", PrivateKeyDer::from_pem_slice)
    }

    /// Finds something in it, as it is now.
    fn parse<T, E: Display>(
        &self,
        what: &str,
        find: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<T, String> {
        let pem = match self {
            Self::Given(pem) => Cow::from(pem),
            Self::File(path) => {
                Cow::from(std::fs::read(path).map_err(|error| self.wrong(what, error))?)
            }
        };
        find(&pem).map_err(|error| self.wrong(what, error))
    }

    /// What is wrong with it, and where it is.
    pub(super) fn wrong(&self, what: &str, error: impl Display) -> String {
        match self.path() {
            None => format!("{what}: {error}"),
            Some(path) => format!("{what}: {}: {error}", path.display()),
        }
    }
}
