use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::oneshot,
};

use super::*;

/// Answers one connection with `answer`, then keeps it open until the sender of the returned channel is dropped.
async fn answering(
    answer: impl Into<Vec<u8>>,
) -> (Client, oneshot::Sender<()>, tokio::task::JoinSet<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(listener.local_addr().unwrap(), Duration::from_secs(10));
    let answer = answer.into();
    let (hold, held) = oneshot::channel();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4_096];
        let length = socket.read(&mut head).await.unwrap();
        socket.write_all(&answer).await.unwrap();
        let _ = held.await;
        String::from_utf8_lossy(&head[..length]).into_owned()
    });
    (client, hold, tasks)
}

#[tokio::test]
async fn a_reply_is_read_whole_and_the_token_is_sent() {
    let (client, hold, mut tasks) =
        answering("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"ok\":true}").await;
    let reply = client.with_token("abc").get("/readyz").await.unwrap();
    assert_eq!(reply.json().unwrap()["ok"], true);
    drop(hold);
    let head = tasks.join_next().await.unwrap().unwrap();
    assert!(head.starts_with("GET /readyz HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Bearer abc\r\n"), "{head}");
}

#[tokio::test]
async fn a_service_that_never_answers_costs_one_deadline() {
    let (client, _hold, _tasks) = answering("").await;
    let impatient = Client { deadline: Duration::from_millis(100), ..client };
    let error = impatient.get("/readyz").await.unwrap_err();
    assert!(error.to_string().contains("did not answer within 100ms"), "{error}");
}

#[tokio::test]
async fn an_error_status_is_an_error_with_the_services_words() {
    let (client, _hold, _tasks) =
        answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nfull\n").await;
    let error = client.get("/readyz").await.unwrap().json().unwrap_err();
    assert_eq!(error.to_string(), "the service answered 503 Service Unavailable: full");
}

#[tokio::test]
async fn events_are_found_however_they_are_cut() {
    let pieces = ["event: chunk\n", "id:", " 1\ndat", "a: {}\n", "\n: ping\n\nda", "ta: x\ndata:y\n", "\n"];
    let chunks: String = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let (client, hold, _tasks) = answering(format!("{head}{chunks}0\r\n\r\n")).await;
    drop(hold);
    let mut events = Events::new(client.open(Method::GET, "/", None).await.unwrap());
    let chunk = SentEvent { event: "chunk".into(), data: "{}".into() };
    assert_eq!(events.next().await.unwrap(), Some(chunk));
    let message = SentEvent { event: "message".into(), data: "x\ny".into() };
    assert_eq!(events.next().await.unwrap(), Some(message));
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_cut_stream_is_an_error_not_an_end() {
    let (client, hold, _tasks) = answering("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ndata: half").await;
    drop(hold);
    let mut stream = client.open(Method::GET, "/", None).await.unwrap();
    let error = loop {
        match stream.next().await {
            Ok(piece) => assert!(piece.is_some(), "the end of half a body was taken for its end"),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("cut"), "{error}");
}
