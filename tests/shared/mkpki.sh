#!/bin/sh
# Makes the certificates of the TLS tests in the directory $1: one authority, a server's
# certificate for each thing that can be right or wrong with it, and a client's certificate.
# Each server has a directory of its own, laid out as nbdkit and qemu-nbd want it.
set -eu
cd "$1"

key() {
    # RSA: qemu-nbd takes nothing else.
    certtool --generate-privkey --key-type=rsa --bits=2048 --outfile "$1" 2>/dev/null
    chmod 600 "$1"
}

authority() { # directory
    mkdir "$1"
    key "$1/ca-key.pem"
    printf 'cn = "Authority %s"\nca\ncert_signing_key\ncrl_signing_key\nexpiration_days = 3650\n' "$1" >info
    certtool --generate-self-signed --load-privkey "$1/ca-key.pem" --template info \
        --outfile "$1/ca-cert.pem" 2>/dev/null
}

certificate() { # outfile, key, authority; the template comes on standard input
    cat >info
    certtool --generate-certificate --load-ca-certificate "$3/ca-cert.pem" \
        --load-ca-privkey "$3/ca-key.pem" --load-privkey "$2" --template info \
        --outfile "$1" 2>/dev/null
}

server() { # directory, authority; the template comes on standard input
    mkdir "$1"
    cp ca/ca-cert.pem "$1/ca-cert.pem"
    cp server-key.pem "$1/server-key.pem"
    cp dh-params.pem "$1/dh-params.pem"
    { cat; printf 'cn = localhost\nencryption_key\nsigning_key\n'; } |
        certificate "$1/server-cert.pem" server-key.pem "$2"
}

# Without them, qemu-nbd makes some each time it starts, which takes seconds.
certtool --get-dh-params --outfile dh-params.pem 2>/dev/null

authority ca
authority other
key server-key.pem
key client-key.pem

names='dns_name = localhost\nip_address = 127.0.0.1\nip_address = ::1\n'
days='expiration_days = 3650\n'
use='tls_www_server\n'
printf "$names$days$use" | server good ca
printf "$names$days$use" | server untrusted other
printf "$days$use" | server nameless ca
printf "dns_name = elsewhere.example\nip_address = 192.0.2.1\n$days$use" | server elsewhere ca
printf "$names${days}tls_www_client\n" | server purpose ca
printf "$names${use}activation_date = \"2020-01-01\"\nexpiration_date = \"2020-02-01\"\n" |
    server expired ca
printf "$names${use}activation_date = \"2090-01-01\"\nexpiration_date = \"2090-02-01\"\n" |
    server future ca
printf "serial = 4711\n$names$days$use" | server revoked ca

# Signed by itself.
mkdir self
cp ca/ca-cert.pem self/ca-cert.pem
cp server-key.pem self/server-key.pem
printf "cn = self\n$names$days${use}encryption_key\nsigning_key\n" >info
certtool --generate-self-signed --load-privkey server-key.pem --template info \
    --outfile self/server-cert.pem 2>/dev/null

revocations() { # outfile; the template comes on standard input
    cat >info
    certtool --generate-crl --load-ca-privkey ca/ca-key.pem --load-ca-certificate ca/ca-cert.pem \
        --load-certificate revoked/server-cert.pem --template info --outfile "$1" 2>/dev/null
}

printf "crl_number = 1\ncrl_next_update = 3650\n" | revocations ca-crl.pem
printf "crl_number = 1\ncrl_this_update_date = \"2020-01-01\"\ncrl_next_update_date = \"2020-02-01\"\n" |
    revocations ca-crl-expired.pem

printf "cn = client\n${days}tls_www_client\nencryption_key\nsigning_key\n" |
    certificate client-cert.pem client-key.pem ca
printf "cn = stranger\n${days}tls_www_client\nencryption_key\nsigning_key\n" |
    certificate stranger-cert.pem client-key.pem other
rm info
