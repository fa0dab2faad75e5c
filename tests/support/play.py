"""What a user of the playground does: sends mail to each port, and looks around in a container."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from urllib.request import Request, urlopen

PASSWORD = "play-with-me"
LARGE = 200_000
"""Octets of text, more than goes into a queue."""

UNSIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"

SINGLE = """\
hostname: mta.example.net
broker: {url: "embedded:///var/lib/postroad/broker"}
content_store: {url: "file:///var/lib/postroad/content"}
ingress:
  listeners:
    - {address: 0.0.0.0, port: 2525, tls: none, auth: none, relay_networks: [127.0.0.0/8]}
router: {routes: [{domains: ["*"], hosts: ["receiver:1025"]}]}
"""
"""A configuration for `postroad run` in one container."""

PROBE = """
import importlib.util, json, os, shutil, sys
def put(folder):
    try:
        with open(folder + '/probe', 'w') as file:
            file.write('x')
        os.unlink(folder + '/probe')
        return ''
    except OSError as error:
        return error.strerror
def flags(file):
    # PEP 552: 0 goes by time, 1 and 3 by hash; and -1 is none at all.
    try:
        with open(file, 'rb') as bytecode:
            return int.from_bytes(bytecode.read(8)[4:], 'little')
    except (OSError, TypeError):
        return -1
status = dict(line.strip('\\n').split(':\\t', 1) for line in open('/proc/self/status'))
folders = ['/', '/etc', '/etc/postroad', '/opt/postroad/bin', '/usr/local/bin', '/run', '/home']
import services.cli, shared.service, shared.smtp.lines
import services.ingress.server, services.delivery.pool
hot = [shared.smtp.lines, services.ingress.server, services.delivery.pool]
print(json.dumps({
    'ids': [os.getuid(), os.getgid(), *os.getgroups()],
    'status': {name: status[name] for name in ('CapEff', 'CapPrm', 'CapBnd', 'NoNewPrivs')},
    'put': {folder: put(folder) for folder in [*folders, '/tmp', '/var/lib/postroad']},
    'tools': [name for name in ('pip', 'pip3', 'gcc', 'cc', 'make', 'git') if shutil.which(name)],
    'pip': importlib.util.find_spec('pip') is not None,
    'prefix': sys.prefix,
    'version': list(sys.version_info[:2]),
    'bytecode': sorted({
        flags(module.__cached__) for module in list(sys.modules.values())
        if (getattr(module, '__file__', None) or '').startswith(sys.prefix)
        and module.__file__.endswith('.py')
    }),
    'compiled': [module.__file__.endswith('.so') for module in hot],
    'environment': sorted(os.environ),
}))
"""


def message(subject: str, text: str = "Hello.\n") -> EmailMessage:
    """A mail from the user whom credentials.yaml knows."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "demo@example.com", "you@example.org", subject
    mail.set_content(text)
    return mail


def plain() -> str:
    """Without login, on 2525."""
    with smtplib.SMTP("127.0.0.1", 2525, timeout=30) as client:
        return _sent(client, message("plain"))


def submitted() -> str:
    """With STARTTLS and login, on 2587."""
    with smtplib.SMTP("127.0.0.1", 2587, timeout=30) as client:
        client.starttls(context=_any_certificate())
        client.login("demo", PASSWORD)
        return _sent(client, message("submitted"))


def large() -> str:
    """With TLS from the start and login, on 2465: more than fits a queue."""
    context = _any_certificate()
    with smtplib.SMTP_SSL("127.0.0.1", 2465, timeout=30, context=context) as client:
        client.login("demo", PASSWORD)
        return _sent(client, message("large", ("x" * 76 + "\n") * (LARGE // 77)))


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _sent(client: smtplib.SMTP, mail: EmailMessage) -> str:
    client.ehlo_or_helo_if_needed()
    client.mail(mail["From"])
    client.rcpt(mail["To"])
    code, said = client.data(mail.as_bytes(policy=SMTP))
    return f"{code} {said.decode()}"


def ask(url: str, method: str = "GET") -> str:
    """One request; one for S3 is believed, whoever asks."""
    request = Request(url, method=method, headers={"Authorization": UNSIGNED})
    with urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())
