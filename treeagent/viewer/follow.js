// Follows a run in progress: its newer data take the place of what the page shows.

async function follow(known) {
  let wait = 1000;
  try {
    const reply = await fetch(`${location.pathname}/data?events=${known}`, { cache: "no-store" });
    if (!reply.ok) return;
    const { events, ended, tree, replies } = await reply.json();
    if (tree) {
      $("tree-0").textContent = JSON.stringify(tree);
      $("replies-0").textContent = JSON.stringify(replies);
      app.renew();
    }
    known = events;
    if (ended) return;
  } catch {
    wait = 5000;  // the server may come back
  }
  setTimeout(() => follow(known), wait);
}

follow(-1);
