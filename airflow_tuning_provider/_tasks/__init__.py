"""How a task lives: it finds or creates its remote work, waits for it, resumes and is killed. Private."""
