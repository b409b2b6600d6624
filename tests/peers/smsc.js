// An SMSC made of the npm package `smpp`: takes what is submitted, says on stdout what it read, and
// sends a receipt for each. Answers have hexadecimal ids, receipts decimal ones.
const fs = require("fs");
const smpp = require("smpp");
const [key, cert] = process.argv.slice(2);
const options = key ? { key: fs.readFileSync(key), cert: fs.readFileSync(cert) } : {};
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
let next = 0xa0;

const server = smpp.createServer(options, (session) => {
  session.on("error", () => session.destroy());
  for (const bind of ["bind_transceiver", "bind_transmitter", "bind_receiver"]) {
    session.on(bind, (pdu) => {
      const right = pdu.system_id === "kaskad" && pdu.password === "secret";
      session.send(pdu.response({ command_status: right ? 0 : smpp.ESME_RINVPASWD }));
      say({ bind, right });
    });
  }
  session.on("submit_sm", (pdu) => {
    if (pdu.destination_addr.endsWith("444")) {
      session.send(pdu.response({ command_status: smpp.ESME_RTHROTTLED }));
      return;
    }
    const id = next++;
    const told = pdu.short_message.message || pdu.message_payload.message;
    say({
      to: pdu.destination_addr,
      from: pdu.source_addr,
      text: told,
      udh: (pdu.short_message.udh || []).map((part) => part.toString("hex")),
      sar: pdu.sar_total_segments,
      validity: pdu.validity_period,
    });
    session.send(pdu.response({ message_id: id.toString(16).toUpperCase() }));
    session.deliver_sm({
      source_addr: pdu.destination_addr,
      destination_addr: pdu.source_addr,
      esm_class: 4,
      short_message: `id:00${id} sub:001 dlvrd:001 submit date:2611281210 done date:2611281211 stat:DELIVRD err:000 text:`,
    }, (answer) => say({ thanked: answer.command_status }));
  });
  session.on("enquire_link", (pdu) => session.send(pdu.response()));
  session.on("unbind", (pdu) => {
    session.send(pdu.response());
    session.close();
    say({ unbound: true });
  });
});
server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
