document.body.textContent = "linkspan";
