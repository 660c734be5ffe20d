//! Encodes and decodes messages as the library does, but decodes large ones off the async threads, like JSON bodies.

use bytes::Buf;
use prost::Message;
use tokio::runtime::{Handle, RuntimeFlavor};
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

/// Bytes of a message that are decoded on an async thread, in about a millisecond.
const A_MOMENT: usize = 1 << 20;

/// The codec of every method of `proto/`.
#[derive(Debug)]
pub struct Codec<T, U>(ProstCodec<T, U>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(ProstCodec::default())
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as tonic::codec::Codec>::Encoder;
    type Decoder = OffIfLarge<<ProstCodec<T, U> as tonic::codec::Codec>::Decoder>;

    fn encoder(&mut self) -> Self::Encoder {
        self.0.encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        OffIfLarge(self.0.decoder())
    }
}

/// A decoder that blocks no other task with a large message.
#[derive(Debug)]
pub struct OffIfLarge<D>(D);

impl<D: Decoder<Error = Status>> Decoder for OffIfLarge<D> {
    type Item = D::Item;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<D::Item>, Status> {
        off_if_large(bytes.remaining(), || self.0.decode(bytes))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// Does work on `n_bytes` bytes. If they are many, the other tasks of this thread move to another one meanwhile; a
/// runtime of one thread has none.
fn off_if_large<T>(n_bytes: usize, work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    let has_others = matches!(flavor, Ok(RuntimeFlavor::MultiThread));
    if n_bytes > A_MOMENT && has_others { tokio::task::block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_large_message_holds_up_nobody() {
        let (tell, told) = channel();
        let large = tokio::spawn(async move {
            // The only worker runs this task first, and the other after it.
            tokio::spawn(async move { tell.send(()).unwrap() });
            off_if_large(A_MOMENT + 1, || told.recv().unwrap());
        });
        large.await.unwrap();
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_decodes_where_it_is() {
        let here = std::thread::current().id();
        assert_eq!(off_if_large(A_MOMENT + 1, || std::thread::current().id()), here);
    }
}
