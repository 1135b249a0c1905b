//! TLS of the API over TCP: version 1.3 alone (RFC 8446), both sides with certificates. A certificate that is not signed by
//! the CA, not valid now, not for clients, or without a role gets no further than the handshake (API-01, API-11).
//!
//! The files are read at the start and looked at again when somebody calls: a certificate that was renewed is in use from
//! then on. Runs on the management threads, the files are read on those that may block.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use config::policy::{Api, ApiRole};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};

use super::role::grant;

/// Bits of a key file's mode that others than its owner and group have.
const FOR_ALL: u32 = 0o007;

/// Why the API cannot be had over TCP, and what the operator should do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}; [api] names it in `{key}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The key of the configuration.
        key: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The private key is open to everybody (CFG-08).
    #[error("{} is a private key that every user of the machine may read; run: chmod o= {}", path.display(), path.display())]
    Loose {
        /// The file.
        path: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {wanted} in PEM: {why}; [api] names it in `{key}`", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The key of the configuration.
        key: &'static str,
        /// What it should hold.
        wanted: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The port cannot be had.
    #[error("cannot listen at {address}: {source}; `listen` under [api] names the address and the port")]
    Port {
        /// The address and the port.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Certificate and key do not belong together, or are of a kind that is not served.
    #[error("certificate {} and key {} cannot be used: {why}", certificate.display(), key.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The state of the files: size, last change of what is in it or who may read it, number of each.
type Stamp = [Option<(u64, i64, i64, u64)>; 3];

/// What was found when the files were last looked at.
#[derive(Debug)]
struct Looked {
    /// Their state then; nothing has to be read as long as they are in it.
    at: Stamp,
    /// The state that could not be used, as the log has it.
    told: Option<Stamp>,
}

/// What handshakes are made with.
#[derive(Debug)]
pub(super) struct Tls {
    api: Api,
    current: Mutex<Arc<ServerConfig>>,
    looked: Mutex<Looked>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(super) fn new(api: &Api) -> Result<Self, TlsError> {
        let looked = Looked { at: stamp(api), told: None };
        Ok(Self { api: api.clone(), current: Mutex::new(made(api)?), looked: Mutex::new(looked) })
    }

    /// What to make a handshake with now. Files that have changed and cannot be used change nothing; the log says so. One
    /// caller looks at them at a time, the others take what there is: a disk that hangs holds up one.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        match self.looked.try_lock() {
            Ok(mut looked) => self.look(&mut looked),
            Err(TryLockError::Poisoned(looked)) => self.look(&mut looked.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn look(&self, looked: &mut Looked) {
        let now = stamp(&self.api);
        if now == looked.at {
            return;
        }
        match made(&self.api) {
            Ok(made) => {
                log::info!("the certificates of the API were read again");
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = made;
                *looked = Looked { at: now, told: None };
            }
            Err(error) => {
                if looked.told != Some(now) {
                    log::error!("the API goes on with the certificates it has: {error}");
                    looked.told = Some(now);
                }
                // What could not even be read (no file descriptor left) may be read next time, as it stands.
                if !matches!(error, TlsError::Unreadable { .. }) {
                    looked.at = now;
                }
            }
        }
    }

    /// Where the configuration says it is.
    pub(super) const fn address(&self) -> SocketAddr {
        self.api.listen
    }

    /// The roles there are.
    pub(super) fn roles(&self) -> &[ApiRole] {
        &self.api.roles
    }
}

fn stamp(api: &Api) -> Stamp {
    [&api.certificate, &api.key, &api.client_ca].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.len(), file.ctime(), file.ctime_nsec(), file.ino()))
    })
}

fn made(api: &Api) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Known::new(api, &provider)?;
    let chain = certificates(&api.certificate, "certificate")?;
    let key = private_key(&api.key)?;
    let mismatch = |error: rustls::Error| TlsError::Mismatch {
        certificate: api.certificate.clone(),
        key: api.key.clone(),
        why: error.to_string(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(mismatch)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key)
        .map_err(mismatch)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Each caller proves anew who it is.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn certificates(path: &Path, key: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = bytes(path, key)?;
    let unusable = |why: String| TlsError::Unusable { path: path.to_owned(), key, wanted: "certificate", why };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let read = read.map_err(|error| unusable(error.to_string()))?;
    if read.is_empty() { Err(unusable("it has no section of that kind".to_owned())) } else { Ok(read) }
}

/// The private key; refused when everybody may read it. What is wrong with one is told without a byte of it.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), key: "key", source };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode();
    if mode & FOR_ALL != 0 {
        return Err(TlsError::Loose { path: path.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(&bytes(path, "key")?).map_err(|_| TlsError::Unusable {
        path: path.to_owned(),
        key: "key",
        wanted: "private key",
        why: "it is of another kind, or damaged".to_owned(),
    })
}

fn bytes(path: &Path, key: &'static str) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), key, source })
}

/// Takes certificates of the CA that have a role, and no others.
#[derive(Debug)]
struct Known {
    signed: Arc<dyn ClientCertVerifier>,
    roles: Vec<ApiRole>,
}

impl Known {
    fn new(api: &Api, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let unusable = |why: String| TlsError::Unusable {
            path: api.client_ca.clone(),
            key: "client_ca",
            wanted: "certificate",
            why,
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&api.client_ca, "client_ca")? {
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        let signed = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let signed = signed.build().map_err(|error| unusable(error.to_string()))?;
        Ok(Self { signed, roles: api.roles.clone() })
    }
}

impl ClientCertVerifier for Known {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.signed.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.signed.verify_client_cert(end_entity, intermediates, now)?;
        match grant(&self.roles, end_entity) {
            Some(_) => Ok(verified),
            None => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}
