// Opened from a file, a page may not read other pages, so search results come without a quotation there.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
