//! The socket below a connection: plain, or under TLS with the machine's own trust.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, crypto::aws_lc_rs, pki_types::ServerName},
};

use super::Address;
use crate::model::provider::ProviderConfigError;

/// How sockets to one server are opened.
pub(super) enum Security {
    Plain,
    Tls { connector: TlsConnector, name: ServerName<'static> },
}

impl Security {
    /// # Errors
    ///
    /// [`ProviderConfigError`] when TLS is asked for and this machine has no set-up for it.
    pub(super) fn of(address: &Address) -> Result<Self, ProviderConfigError> {
        if !address.is_encrypted() {
            return Ok(Self::Plain);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(|_| address.refuse("cannot be served: no certificate authority is known here"))?
            .with_no_client_auth();
        Self::with(address, config)
    }

    pub(super) fn with(address: &Address, config: ClientConfig) -> Result<Self, ProviderConfigError> {
        let name = ServerName::try_from(address.host().to_owned())
            .map_err(|_| address.refuse("has a host that no certificate can be for"))?;
        Ok(Self::Tls { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Opens a socket, with its handshake.
    pub(super) async fn open(&self, (host, port): (&str, u16)) -> io::Result<Socket> {
        let tcp = TcpStream::connect((host, port)).await?;
        tcp.set_nodelay(true)?;
        match self {
            Self::Plain => Ok(Socket::Plain(tcp)),
            Self::Tls { connector, name } => {
                let tls = connector.connect(name.clone(), tcp).await?;
                Ok(Socket::Tls(Box::new(tls)))
            }
        }
    }
}

pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
