#!/bin/sh
# pyreqwest 0.15.1 (rustls) beside aiohttp 3.14.5 (OpenSSL), CPython 3.11, Linux.
#
# Behaviour: `openssl req -x509` makes a self-signed certificate that is also one of an authority
# (basicConstraints CA:TRUE). With SSL_CERT_FILE set to it, aiohttp talks to a server that shows it, and
# pyreqwest refuses it. A certificate that the same authority has issued to the server serves both.
# Model servers within a company are often set up in the first way.
#
# Output seen:
#   self-signed: aiohttp ok, pyreqwest refuses (CaUsedAsEndEntity)
#   issued: aiohttp ok, pyreqwest ok
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pyreqwest==0.15.1 aiohttp==3.14.5
cd "$work"
new="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $new -keyout ca.key -out ca.pem -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost 2>/dev/null
openssl req $new -keyout leaf.key -out leaf.csr -subj /CN=localhost 2>/dev/null
printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' > names
openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out leaf.pem -days 2 2>/dev/null
cat > look.py <<'PY'
import asyncio, http.server, ssl, sys, threading, time


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"https://localhost:{server.server_port}/"


async def by_aiohttp():
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


async def by_pyreqwest():
    from pyreqwest.client import ClientBuilder
    from pyreqwest.exceptions import RequestError

    async with ClientBuilder().no_proxy().build() as client:
        try:
            return await (await client.get(url).build().send()).text()
        except RequestError as error:
            told = error.details["causes"][-1]["message"]
            return "refuses (CaUsedAsEndEntity)" if "CaUsedAsEndEntity" in told else told


print(f"{sys.argv[1]}: aiohttp {asyncio.run(by_aiohttp())}, pyreqwest {asyncio.run(by_pyreqwest())}", flush=True)
server.shutdown()
time.sleep(1)
PY
export SSL_CERT_FILE="$work/ca.pem"
{
    "$work/venv/bin/python" look.py self-signed ca.pem ca.key
    "$work/venv/bin/python" look.py issued leaf.pem leaf.key
} | tee seen
cat > wanted <<'OUT'
self-signed: aiohttp ok, pyreqwest refuses (CaUsedAsEndEntity)
issued: aiohttp ok, pyreqwest ok
OUT
diff wanted seen
