"""What a session may do: frozen data, strict parsing, and narrowing. No room above is known here."""
