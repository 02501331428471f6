"""Record batches that no client would make, put on a broker as they are."""

import asyncio
import struct

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record._crc32c import crc
from aiokafka.record.default_records import DefaultRecordBatchBuilder

_CRC, _ATTRIBUTES = 17, 21  # where a batch keeps them; the checksum covers what follows it
NO_CODEC = 6


def batch(values: list[bytes], key: bytes, codec: int = 0, headers: list[tuple[str, bytes]] | None = None) -> bytearray:
    """A batch of these values, compressed by the codec's number."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 24)
    for offset, value in enumerate(values):
        builder.append(offset, 1_790_000_000_000, key, value, headers or [])
    return bytearray(builder.build())


def seal(found: bytearray) -> bytes:
    """The batch with a checksum that fits."""
    struct.pack_into(">I", found, _CRC, crc(bytes(found[_ATTRIBUTES:])))
    return bytes(found)


def unknown_codec(values: list[bytes], key: bytes) -> bytes:
    found = batch(values, key)
    struct.pack_into(">h", found, _ATTRIBUTES, NO_CODEC)
    return seal(found)


def broken_body(values: list[bytes], key: bytes, codec: int) -> bytes:
    """Compressed bytes that do not decompress, under a checksum that fits."""
    found = batch(values, key, codec)
    found[61:] = bytes(each ^ 0xFF for each in found[61:])
    return seal(found)


def broken_checksum(values: list[bytes], key: bytes) -> bytes:
    found = batch(values, key)
    found[-2] ^= 0xFF
    return bytes(found)


def bad_header(values: list[bytes], key: bytes) -> bytes:
    """A header whose name is no UTF-8."""
    found = batch(values, key, headers=[("name", b"x")])
    at = found.index(b"name")
    found[at : at + 4] = b"\xff\xfe\xfd\xfc"
    return seal(found)


def put(servers: str, topic: str, partition: int, data: bytes) -> int:
    """Produces the bytes as one batch; Kafka's error code, 0 for none."""

    async def send() -> int:
        client = AIOKafkaClient(bootstrap_servers=servers)
        await client.bootstrap()
        try:
            await client.add_topic(topic)
            await client.force_metadata_update()
            leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            request = ProduceRequest(
                transactional_id=None, required_acks=-1, timeout=10_000, topics=[(topic, [(partition, data)])]
            )
            answer = await client.send(leader, request)
            return int(answer.topics[0][1][0][1])
        finally:
            await client.close()

    return asyncio.run(send())
