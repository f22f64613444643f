"""RabbitMQ, through aio-pika: the only package that imports it. `driver` keeps the promises of `broker.contract`.

A session (one connection and all that is on it) lives as a whole: whatever part of it ends, all of it ends and a new
one begins. Why not aio-pika's robust connection: `docs/adr/0004`.
"""
