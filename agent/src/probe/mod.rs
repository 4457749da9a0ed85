//! One try of a health check: http, tcp, exec, file. Unit probes are answered by the supervisor. No data is a
//! failure of the try, never a pass.

mod exec;
mod file;
mod http;

use std::time::Duration;

use groundswell_common::manifest::Probe;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::ports::{Probes, RunSpec, Work};

/// Why a try of a probe did not pass.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// Nobody answered in time.
    #[error("probe {what}: no answer within {secs} s")]
    Late { what: String, secs: u64 },
    /// Nobody is there.
    #[error("probe {what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    /// An HTTP answer that is none, or breaks off.
    #[error("probe {what}")]
    Http {
        what: String,
        #[source]
        source: hyper::Error,
    },
    /// The file of authorities of an `https://` probe.
    #[error("probe {what}: read {}", path.display())]
    Authority {
        what: String,
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Authorities that are none.
    #[error("probe {what}")]
    Tls {
        what: String,
        #[source]
        source: groundswell_net::tls::TlsError,
    },
    /// Nobody is there, or it is not who its certificate should name.
    #[error("probe {what}")]
    Net {
        what: String,
        #[source]
        source: groundswell_net::NetError,
    },
    /// An HTTP status that is not the one wanted.
    #[error("probe {what}: status {status}")]
    Status { what: String, status: u16 },
    /// A URL without a host.
    #[error("probe {0}: the URL names no host")]
    Url(String),
    /// A command that did not exit with 0.
    #[error("probe {what}: {how}: {output}")]
    Exit { what: String, how: String, output: String },
    /// A directory or something else that is no file.
    #[error("probe {0}: it is no file")]
    NoFile(String),
    /// A file that was written too long ago.
    #[error("probe {what}: written {age} s ago, at most {max_age_secs} s")]
    Old { what: String, age: u64, max_age_secs: u64 },
    /// A unit that is not active.
    #[error("probe {0}: the unit is not active")]
    Unit(String),
}

/// Probes over the network and by commands.
#[derive(Debug, Default)]
pub(crate) struct RealProbes;

impl Probes for RealProbes {
    fn once<'a>(&'a self, probe: &'a Probe, spec: &'a RunSpec) -> Work<'a, Result<(), ProbeError>> {
        Box::pin(async move {
            match probe {
                Probe::Http { url, timeout_secs, status, ca } => {
                    // An absolute path stands for itself.
                    let ca = (!ca.is_empty()).then(|| spec.tree.join(ca));
                    let time = Duration::from_secs(*timeout_secs);
                    let get = http::Get { url, status: *status, ca: ca.as_deref(), time };
                    within(url, *timeout_secs, http::get(get)).await
                }
                Probe::Tcp { address, timeout_secs } => {
                    within(address, *timeout_secs, open(address)).await
                }
                Probe::Exec { argv, timeout_secs } => exec::probe(argv, *timeout_secs, spec).await,
                Probe::File { path, max_age_secs } => {
                    within(path, file::ANSWER_SECS, file::look(path, *max_age_secs)).await
                }
                Probe::Unit { unit } => Err(ProbeError::Unit(unit.clone())),
            }
        })
    }
}

async fn within(
    what: &str,
    secs: u64,
    work: impl Future<Output = Result<(), ProbeError>>,
) -> Result<(), ProbeError> {
    let late = || ProbeError::Late { what: what.to_owned(), secs };
    timeout(Duration::from_secs(secs), work).await.map_err(|_| late())?
}

async fn open(address: &str) -> Result<(), ProbeError> {
    TcpStream::connect(address)
        .await
        .map(drop)
        .map_err(|source| ProbeError::Io { what: address.to_owned(), source })
}

#[cfg(test)]
mod tests;
