//! The memory that requests of the Kinesis API take.

use linkspan::gateway::Gateway;
use reqwest::{Client, Response};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::scene::{Scene, until};

/// In KiB.
const ALL: usize = 256 << 10;

async fn list(scene: &Scene) -> Response {
    let client = Client::builder().no_proxy().build().unwrap();
    let request = client
        .post(format!("http://{}/", scene.served().address))
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "Kinesis_20131202.ListStreams")
        .body("{}");
    request.send().await.unwrap()
}

fn room(gateway: &Gateway) -> usize {
    let own = gateway.own_streams.as_ref().expect("own streams");
    own.bodies().available_permits()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_read_when_there_is_room_for_all_of_it() {
    let mut scene = Scene::start(|_| "[streams]\nenabled = true\n".to_owned()).await;
    let auth = "auth = \"none\"\n";
    scene.configure(auth, &format!("{auth}body_idle_timeout = \"1s\"\n"));
    scene.restart().await;
    let gateway = scene.served().gateway.clone();
    assert_eq!(room(&gateway), ALL);

    let bodies = gateway.own_streams.as_ref().unwrap().bodies().clone();
    let all = bodies.acquire_many_owned(u32::try_from(ALL).unwrap());
    let all = all.await.unwrap();
    let refused = list(&scene).await;
    assert!(refused.status().is_server_error() || refused.status().is_client_error());
    let text = refused.text().await.unwrap();
    assert!(
        text.contains("There is no room for the request now"),
        "{text}"
    );
    drop(all);
    assert_eq!(list(&scene).await.status(), 200);
    until("the room is given back", async || {
        (room(&gateway) == ALL).then_some(())
    })
    .await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_takes_its_room_from_its_begin_and_gives_it_back_when_its_sender_goes_away() {
    let scene = Scene::start(|_| "[streams]\nenabled = true\n".to_owned()).await;
    let gateway = scene.served().gateway.clone();
    let mut sender = TcpStream::connect(scene.served().address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-amz-json-1.1\r\n\
                x-amz-target: Kinesis_20131202.ListStreams\r\ncontent-length: 3145728\r\n\r\n{";
    sender.write_all(head.as_bytes()).await.unwrap();
    until("the room is taken", async || {
        (room(&gateway) == ALL - 3072).then_some(())
    })
    .await;
    drop(sender);
    until("the room is given back", async || {
        (room(&gateway) == ALL).then_some(())
    })
    .await;
    scene.stop().await;
}
