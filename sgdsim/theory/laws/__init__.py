"""Laws: the predictions of theory for a run, one file for each piece of physics. Importing a file declares its laws."""
