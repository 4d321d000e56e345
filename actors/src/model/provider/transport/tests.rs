//! Connections under TLS, with certificates made for the test.

use std::{io::ErrorKind, path::Path, process::Command, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::{socket::Security, *};
use crate::model::{
    Timeouts,
    provider::{AnswerStream as _, Batch, UpstreamError},
};

/// Knows one answer: whatever was said when the bytes are over.
struct Heard(Vec<u8>);

impl Decode for Heard {
    fn is_spoken_in(&self, _: &[u8]) -> bool {
        true
    }

    fn feed(&mut self, bytes: &[u8], _: &mut Batch) -> Result<(), UpstreamError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, _: &mut Batch) -> Result<(), UpstreamError> {
        Err(UpstreamError::Failed(String::from_utf8_lossy(&self.0).into_owned()))
    }

    fn refused(&self, status: http::StatusCode, _: &[u8]) -> UpstreamError {
        UpstreamError::Failed(status.to_string())
    }
}

/// A self-signed certificate for this name, and its key.
fn certificate(directory: &Path, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let (key, certificate) = (directory.join("key.pem"), directory.join("cert.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-days", "2", "-subj", "/CN=test", "-addext"]).arg(format!("subjectAltName=DNS:{name}"));
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    let made = openssl.output().expect("the Debian package openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (CertificateDer::from_pem_file(certificate).unwrap(), PrivateKeyDer::from_pem_file(key).unwrap())
}

fn config_trusting(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[tokio::test]
async fn an_answer_comes_under_tls_from_the_server_that_the_certificate_is_for_and_from_no_other() {
    let directory = std::env::temp_dir().join(format!("deepersensor-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (certificate, key) = certificate(&directory, "localhost");
    std::fs::remove_dir_all(&directory).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = async {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            // Who does not trust it hangs up here.
            let Ok(mut socket) = acceptor.accept(socket).await else { continue };
            let mut seen = Vec::new();
            while !seen.ends_with(b"ask") {
                if socket.read_buf(&mut seen).await.unwrap() == 0 {
                    break;
                }
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret";
            socket.write_all(answer).await.unwrap();
            match socket.shutdown().await {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotConnected),
            }
        }
    };
    let ask = async |host: &str, security: fn(&Address, ClientConfig) -> Security, roots: RootCertStore| {
        let address = Address::parse(&format!("https://{host}:{port}")).unwrap();
        let security = security(&address, config_trusting(roots));
        let target = address.target("x").unwrap();
        let client = Client::with(address, security, Duration::from_secs(5), HeaderMap::new());
        let prompt = Prompt { target, body: Bytes::from_static(b"ask") };
        let opened =
            AnswerBytes::open(Arc::new(client), prompt, Heard(Vec::new()), &Timeouts::default(), false).await;
        match opened {
            Ok(mut answer) => answer.read(&mut Batch::default()).await.unwrap_err(),
            Err(error) => error,
        }
    };
    let trusting = |address: &Address, config| Security::with(address, config).unwrap();
    let usual = |address: &Address, _| Security::of(address).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let asking = async {
        let heard = ask("localhost", trusting, roots.clone()).await;
        assert_eq!(heard, UpstreamError::Failed("secret".to_owned()));
        let refused = [ask("127.0.0.1", trusting, roots.clone()).await, ask("localhost", usual, roots).await];
        for error in refused {
            assert!(
                matches!(&error, UpstreamError::Connect(why) if why.contains("certificate")),
                "{error:?}"
            );
        }
    };
    tokio::select! {
        () = serving => unreachable!("it serves until the test is over"),
        () = asking => {}
    }
}
