"""When a page has painted: within the frame after a change, or later."""

# Resolves once the frame after a change is drawn.
PAINTED = """
  const painted = () => new Promise(done => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => done(performance.now());
    channel.port2.postMessage(0);
  }));
"""
