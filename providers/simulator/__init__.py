"""The provider simulator: Infobip's wire formats over HTTP, faults on demand, and a bill."""
