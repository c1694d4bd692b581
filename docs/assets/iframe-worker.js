// A browser starts no worker for a page that is opened from a folder. There the search
// gets a hidden frame instead, which runs the same script and passes the same messages.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(script) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = "<!doctype html>";
      frame.addEventListener("load", () => this.start(frame.contentWindow, script), { once: true });
      document.body.append(frame);
    }

    start(inside, script) {
      const receive = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.postMessage = receive;
      inside.importScripts = (...scripts) => Promise.all(scripts.map((one) => load(inside, one)));
      load(inside, script).then(() => {
        this.inside = inside;
        this.waiting.forEach((data) => this.postMessage(data));
      });
    }

    postMessage(data) {
      if (this.inside) this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }));
      else this.waiting.push(data);
    }
  };

  const load = (inside, script) =>
    new Promise((done) => {
      const element = inside.document.createElement("script");
      element.src = new URL(script, document.baseURI);
      element.addEventListener("load", done, { once: true });
      inside.document.head.append(element);
    });
}
