//! Which proxy a connection goes through, if any.

use crate::dial::{Environment, Proxy};
use crate::error::Error;
use crate::http1::Endpoint;

#[derive(Debug, Clone, Default)]
pub(super) enum Route {
    #[default]
    Straight,
    Through(Proxy),
    AsTheEnvironmentSays(Box<Environment>),
}

impl Route {
    /// The proxy on the way to this endpoint.
    pub(super) fn proxy(&self, endpoint: &Endpoint) -> Result<Option<&Proxy>, Error> {
        match self {
            Self::Straight => Ok(None),
            Self::Through(proxy) => Ok(Some(proxy)),
            Self::AsTheEnvironmentSays(environment) => {
                environment.proxy(&endpoint.host, endpoint.port, endpoint.scheme.as_str())
            }
        }
    }
}
