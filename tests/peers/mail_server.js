// A mail server of npm's smtp-server: its port in the first line, then each mail in a line of JSON.
const fs = require("fs");
const { SMTPServer } = require("smtp-server");

const [certificate, key, secure] = process.argv.slice(2);
const server = new SMTPServer({
  cert: fs.readFileSync(certificate),
  key: fs.readFileSync(key),
  secure: secure === "implicit",
  authOptional: false,
  onAuth(auth, session, done) {
    const known = auth.username === "kaskad" && auth.password === "s3cret";
    const refusal = Object.assign(new Error("Invalid login"), { responseCode: 535 });
    done(known ? null : refusal, known ? { user: auth.username } : undefined);
  },
  onRcptTo(address, session, done) {
    const known = !address.address.startsWith("nobody@");
    done(known ? null : Object.assign(new Error("5.1.1 No such user"), { responseCode: 550 }));
  },
  onData(stream, session, done) {
    const pieces = [];
    stream.on("data", (piece) => pieces.push(piece));
    stream.on("end", () => {
      const { mailFrom, rcptTo } = session.envelope;
      const mail = {
        from: mailFrom.address,
        to: rcptTo.map((one) => one.address),
        secure: session.secure,
        octets: Buffer.concat(pieces).toString("base64"),
      };
      process.stdout.write(JSON.stringify(mail) + "\n");
      done(null, "queued");
    });
  },
});
server.listen(0, "127.0.0.1", () => {
  process.stdout.write(JSON.stringify({ port: server.server.address().port }) + "\n");
});
process.stdin.on("end", () => process.exit(0)).resume();
