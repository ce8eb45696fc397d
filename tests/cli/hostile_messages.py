# SPDX-License-Identifier: Apache-2.0
"""What hostile_client.py sends: bytes only, the same for the same seed."""
import json

MIB = 1 << 20
LARGEST_BODY = 51200


def request(method, target, body=b'', headers=b''):
    length = b'Content-Length: %d\r\n' % len(body) if body else b''
    return b'%s %s HTTP/1.1\r\n%s%s\r\n%s' % (method.encode(), target.encode(), headers, length, body)


def long_lines():
    yield 'a request line of 4 MiB', b'GET /' + b'a' * 4 * MIB + b' HTTP/1.1\r\n\r\n'
    yield 'a method of 4 MiB', b'G' * 4 * MIB
    yield 'a header of 4 MiB', b'GET / HTTP/1.1\r\nA: ' + b'b' * 4 * MIB + b'\r\n\r\n'
    yield 'a name of a header of 4 MiB', b'GET / HTTP/1.1\r\n' + b'b' * 4 * MIB + b': a\r\n\r\n'
    yield 'a header of 4 MiB of spaces', b'GET / HTTP/1.1\r\nA:' + b' ' * 4 * MIB + b'\r\n\r\n'
    yield '100000 headers', b'GET / HTTP/1.1\r\n' + b'A: b\r\n' * 100000 + b'\r\n'
    yield '100000 folded lines', b'GET / HTTP/1.1\r\nA: b\r\n' + b' b\r\n' * 100000 + b'\r\n'
    yield 'line ends without end', b'\r\n' * 2 * MIB


def huge_bodies():
    put = b'PUT /mmds HTTP/1.1\r\n'
    chunked = put + b'Transfer-Encoding: chunked\r\n\r\n'
    for size in (LARGEST_BODY + 1, 300 * MIB, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 10**30):
        yield f'a body of {size} bytes', put + b'Content-Length: %d\r\n\r\n' % size + b'x' * 2 * MIB
    yield 'a string of 1 MiB', request('PUT', '/mmds', b'{"a": "' + b'x' * MIB + b'"}')
    yield 'a chunk of 300 MiB', chunked + b'%x\r\n' % (300 * MIB) + b'x' * 2 * MIB

    def endless():
        yield chunked
        for _ in range(300 * 16):
            yield b'10000\r\n' + b'x' * 0x10000 + b'\r\n'
        yield b'0\r\n\r\n'
    yield '300 MiB in chunks', endless()
    yield 'chunks of a byte', chunked + b'1\r\nx\r\n' * (LARGEST_BODY + 1) + b'0\r\n\r\n'
    yield 'an extension of a chunk without end', chunked + b'1;' + b'a' * 4 * MIB
    yield 'trailers without end', chunked + b'0\r\n' + b'A: b\r\n' * 100000


# Not among them: '5, 5', which RFC 9112 (6.3) lets a server take for 5
LENGTHS = ('-1', '+5', '0x5', '5, 6', '', ' ', '5 5', '5;', '5.0', '1e1', '5\0', '\0', '18446744073709551621')
CODINGS = ('chunked, chunked', 'gzip, chunked', 'chunked, gzip', 'chunked, identity', 'xchunked', 'chunked\0', 'x', ',')
CHUNKS = ('ffffffffffffffff', '10000000000000000', '10000000000000005', '7fffffffffffffff', '-1', '+5', '0x5', '', 'g',
          '5\0', ';', '\xff')
HEADERS = (
    'Content-Length: 5\r\nContent-Length: 6', 'Content-Length: 6\r\nContent-Length: 5',
    'Content-Length: 5\r\nTransfer-Encoding: chunked', 'Transfer-Encoding: chunked\r\nContent-Length: 5',
    'Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip', 'Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked',
    'Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\nContent-Length: 5', 'Content-Length : 5',
    'Content-Length\t: 5', ' Content-Length: 5', 'Content-Length', ': 5', 'Content-\0Length: 5', 'Content-Length\r: 5',
    'A: \0', 'A: \x01', 'A\xff: b', 'A: b\rContent-Length: 5')


def framing():
    inner = b'GET /version HTTP/1.1\r\n\r\n'
    put = b'PUT /mmds HTTP/1.1\r\n%s\r\n\r\n%s'
    for length in LENGTHS:
        yield f'Content-Length {length!r}', put % (b'Content-Length: ' + length.encode(), b'{"a":' + inner)
    for coding in CODINGS:
        yield f'Transfer-Encoding {coding!r}', put % (b'Transfer-Encoding: ' + coding.encode(), b'0\r\n\r\n' + inner)
    for size in CHUNKS:
        yield f'a chunk of {size!r} bytes', put % (b'Transfer-Encoding: chunked',
                                                  size.encode('latin1') + b'\r\n{"a":\r\n0\r\n\r\n' + inner)
    for header in HEADERS:
        yield f'{header!r}', put % (header.encode('latin1'), b'0\r\n\r\n' + inner)
    for line in (b'GET /version', b'GET  /version HTTP/1.1', b'GET /version HTTP/1.1 ', b'GET /ver sion HTTP/1.1',
                 b'GET /version HTTP/1.11', b'GET /version HTTP/0.9', b'GET /version HTTP/2.0',
                 b' GET /version HTTP/1.1', b'GET\t/version\tHTTP/1.1', b'GET /version http/1.1', b'GET /\0 HTTP/1.1',
                 b'GE\0T / HTTP/1.1', b'GET version HTTP/1.1', b'GET * HTTP/1.1', b'\0', b'/ / /'):
        yield f'{line!r}', line + b'\r\n\r\n'


def plain_json():
    """As large as a body may be, and good."""
    return json.dumps({f'{number:x}': 0 for number in range(5000)}).encode()[:LARGEST_BODY]


def json_bodies():
    """(name, body, whether /mmds may take it)"""
    many = b','.join(b'"%x":0' % number for number in range(3900))
    again = b','.join([b'"k":0'] * 3300)
    yield 'arrays 25000 deep', b'[' * 25000 + b']' * 25000, False
    yield 'objects 8000 deep', b'{"a":' * 8000 + b'0' + b'}' * 8000, False
    yield 'arrays without end', b'{"a":' + b'[' * 51000, False
    yield 'a key 8500 times', b'{' + b','.join([b'"k":0'] * 8500) + b'}', False
    yield 'a key 3300 times behind 3900 others', b'{' + many + b',"z":{' + again + b'}}', False
    yield 'a key 3300 times beneath a long one', b'{"' + b'x' * 27000 + b'":{' + again + b'}}', False
    yield '5800 keys', b'{' + b','.join(b'"%x":0' % number for number in range(5800)) + b'}', True
    yield 'a key of 50000 bytes', b'{"' + b'k' * 50000 + b'":0}', True
    yield '17000 arrays', b'[' + b'[],' * 16999 + b'[]]', False
    yield '12000 objects', b'{"a":[' + b'{},' * 12000 + b'{}]}', True
    yield '51000 digits', b'9' * 51000, False
    yield 'a fraction of 50000 digits', b'{"a":0.' + b'1' * 50000 + b'}', True
    yield 'an exponent of 50000 digits', b'{"a":1e' + b'9' * 50000 + b'}', False
    yield 'a small exponent', b'{"a":1e-' + b'9' * 5000 + b'}', True
    yield '8000 escapes', b'{"a":"' + b'\\u00ff' * 8000 + b'"}', True
    yield '8000 NUL characters', b'{"a":"' + b'\\u0000' * 8000 + b'"}', True
    yield '50000 spaces', b' ' * 50000 + b'[]', False
    for name, text in (('no UTF-8', b'"\xff\xfe"'), ('overlong UTF-8', b'"\xc0\xaf"'),
                       ('a surrogate', b'"\xed\xa0\x80"'), ('half a pair', b'"\\ud800"'), ('a NUL byte', b'0\0'),
                       ('a NUL byte in a string', b'"\0"'), ('a comma', b'[1,]'), ('NaN', b'NaN'),
                       ('a comment', b'0/**/'), ('hexadecimal', b'0x1'),
                       ('a control character', b'"\x01"'), ('half an escape', b'"\\u00'), ('no end', b'[')):
        yield name, b'{"a":' + text + b'}', False
    for name, text in (('a byte order mark', b'\xef\xbb\xbf{}'), ('a string', b'"a"'), ('null', b'null'),
                       ('two', b'{}{}'), ('UTF-16', '{}'.encode('utf-16')), ('one brace', b'{'),
                       ('a NUL byte behind', b'{}\0')):
        yield name, text, False


def other_protocols():
    upgrade = b'Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nUpgrade: '
    yield 'a web socket', request('GET', '/', headers=b'Connection: Upgrade\r\nUpgrade: websocket\r\n'
                                  b'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n')
    yield 'h2c', request('GET', '/', headers=upgrade + b'h2c\r\n')
    yield 'HTTP/2', b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + b'\0\0\0\4\0\0\0\0\0' * 1000
    yield 'TLS', b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + b'\0' * 500
    yield 'CONNECT', request('CONNECT', 'localhost:443')
    yield 'OPTIONS', request('OPTIONS', '*')
    yield 'TRACE', request('TRACE', '/')
    yield 'HEAD', request('HEAD', '/')
    yield 'a whole address', request('GET', 'http://localhost/version')
    yield 'another scheme', request('GET', 'file:///etc/passwd')
    yield 'a climb', request('GET', '/../../../etc/passwd')
    yield 'an expectation', request('PUT', '/mmds', b'{"a": 0}', b'Expect: 200-ok\r\n')


def random_targets(rng, count):
    names = (b'GET', b'PUT', b'PATCH', b'DELETE', b'HEAD', b'get', b'')
    for _ in range(count):
        name = rng.choice(names) if rng.random() < 0.5 else rng.randbytes(rng.randrange(1, 20))
        place = rng.choice((b'/x', b'/inox/', b'/drives/', b'//x', b'x', b'http://x/x', b'/inox/devices?'))
        yield name + b' ' + place + rng.randbytes(rng.choice((9, 50, 900))) + b' HTTP/1.1\r\n\r\n'


def valid(folder):
    """Requests that change no file and start nothing."""
    def put(target, body, method='PUT'):
        return request(method, target, json.dumps(body).encode())
    return [
        request('GET', '/'), request('GET', '/version'), request('GET', '/vm/config'), request('GET', '/inox/status'),
        request('GET', '/inox/devices?offset=0&limit=10'), request('GET', '/inox/iommu?domain=1&from=0x0&limit=100'),
        request('GET', '/inox/events?since=3'), request('GET', '/inox/metrics'), request('GET', '/mmds'),
        request('DELETE', '/drives/a'), request('DELETE', '/inox/devices/none?force=true&kind=disk'),
        put('/machine-config', {'vcpu_count': 2, 'mem_size_mib': 64, 'smt': False, 'huge_pages': 'None'}),
        put('/machine-config', {'mem_size_mib': 128}, 'PATCH'),
        put('/boot-source', {'kernel_image_path': f'{folder}/none', 'boot_args': 'console=ttyS0 quiet'}),
        put('/drives/a', {'drive_id': 'a', 'is_root_device': False, 'path_on_host': f'{folder}/disk', 'rate_limiter':
                          {'bandwidth': {'size': 1000, 'one_time_burst': 5, 'refill_time': 100}}}),
        put('/network-interfaces/n', {'iface_id': 'n', 'host_dev_name': 'tap', 'guest_mac': '02:00:00:00:00:01'}),
        put('/balloon', {'amount_mib': 4, 'deflate_on_oom': True, 'stats_polling_interval_s': 1}),
        put('/mmds', {'latest': {'meta-data': {'id': 'i', 'list': [1, 2.5, -3, True, None, 'x']}}}),
        put('/mmds', {'latest': {'meta-data': None}}, 'PATCH'),
        put('/cpu-config', {'cpuid_modifiers': [{'leaf': '0x1', 'subleaf': '0x0', 'flags': 0, 'modifiers': [
            {'register': 'ecx', 'bitmap': '0bxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx0'}]}]}),
        put('/vm', {'state': 'Paused'}, 'PATCH'), put('/vm', {'state': 'Resumed'}, 'PATCH'),
        put('/entropy', {}),
        b'PUT /mmds HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n3;x=y\r\n 1}\r\n0\r\nT: u\r\n\r\n',
        b'PUT /mmds HTTP/1.0\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}']


def mutations(rng, count, folder):
    corpus = valid(folder)
    for _ in range(count):
        data = bytearray(rng.choice(corpus))
        for _ in range(rng.randrange(1, 5)):
            at, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 16, 64))
            what = rng.randrange(7)
            if what == 0 and at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            elif what == 1:
                del data[at:at + length]
            elif what == 2:
                data[at:at] = rng.randbytes(length)
            elif what == 3:
                data[at:at] = data[at:at + length] * rng.choice((1, 2, 300))
            elif what == 4:
                data[at:] = (other := rng.choice(corpus))[rng.randrange(len(other)):]
            elif what == 5:
                data[at:at + length] = rng.choice((b'\r\n', b'\0', b'{', b'[', b'"', b'%00', b'-1', b'1e999', b'\xff',
                                                   b'18446744073709551616', b'null', b'../', b'\r\n\r\n', b'\\u0000'))
            else:
                del data[at:]
        yield bytes(data)


def with_path(file):
    for target, body in (('/boot-source', {'kernel_image_path': file}),
                         ('/boot-source', {'kernel_image_path': file, 'initrd_path': file}),
                         ('/drives/p', {'drive_id': 'p', 'is_root_device': False, 'path_on_host': file}),
                         ('/logger', {'log_path': file}), ('/metrics', {'metrics_path': file}),
                         ('/serial', {'serial_out_path': file}),
                         ('/network-interfaces/p', {'iface_id': 'p', 'host_dev_name': file[-15:]}),
                         ('/network-interfaces/p', {'iface_id': 'p', 'host_dev_name': 'nosuchtap'}),
                         ('/network-interfaces/p', {'iface_id': 'p', 'socket': file}),
                         ('/inox/devices/p', {'disk': {'path_on_host': file}}),
                         ('/inox/devices/p', {'vfio': {'host': '0000:ff:1f.7'}})):
        yield target, json.dumps(body).encode()


def slow(rng):
    """(bytes, whether they are sent one at a time and answers are read): more than 10 seconds of it"""
    header = b'GET / HTTP/1.1\r\n' + b''.join(b'A%d: %d\r\n' % (n, rng.randrange(1000)) for n in range(100))
    chunks = b'1\r\n \r\n' * 200
    for _ in range(3):
        yield header, True
        yield b'GET /' + b'a' * 900, True
        yield b'', True  # one that is silent makes way for others
        yield b'P', True
        # These begin at once, and are slow from there
        yield b'PUT /mmds HTTP/1.1\r\nContent-Length: 1000\r\n\r\n' + b' ' * 999, True
        yield b'PUT /mmds HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n' + chunks, True
        yield request('GET', '/inox/openapi.json') * 2000, False
        yield request('GET', '/') * 20000, False
