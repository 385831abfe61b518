const answer = await fetch("/api/status");
document.getElementById("status").textContent = JSON.stringify(await answer.json(), null, 2);
