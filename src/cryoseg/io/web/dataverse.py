"""Files of a dataset in a Dataverse repository, such as ETSAM's in Harvard Dataverse.

Source: Dataverse guides, native API (files of a dataset version) and data access API.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from cryoseg.errors import InputError
from cryoseg.io.web.http import fetch_json
from cryoseg.io.web.remote_files import RemoteFile, safe_path

DATAVERSE = "https://dataverse.harvard.edu"
# ETSAM's masks and simulated tomograms. Source: jianlin-cheng/ETSAM scripts/collect_data.py@b859060.
ETSAM_DOI = "doi:10.7910/DVN/K4JKCW"


def list_dataset(doi: str = ETSAM_DOI, *, server: str = DATAVERSE) -> dict[str, list[RemoteFile]]:
    """Files by the folder they lie in, such as `10000/247/target_mask`.

    Parameters
    ----------
    doi
        Of the dataset, with `doi:` in front.
    server
        Address of the repository.

    Returns
    -------
    dict
        Folder to files; `RemoteFile.path` is the last part of the folder and the name.

    Raises
    ------
    InputError
        If the answer has another form.
    WeightsError
        If the repository does not answer.
    """
    question = urlencode({"persistentId": doi})
    url = f"{server}/api/datasets/:persistentId/versions/:latest-published/files?{question}"
    answer = fetch_json(url)
    folders: dict[str, list[RemoteFile]] = {}
    try:
        for entry in answer["data"]:
            folder = entry.get("directoryLabel", "")
            kind = folder.rsplit("/", 1)[-1]
            folders.setdefault(folder, []).append(_file(entry, kind=kind, server=server, url=url))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{url}: the list of files has another form ({error!r}).") from error
    return folders


def _file(entry: dict[str, Any], *, kind: str, server: str, url: str) -> RemoteFile:
    data = entry["dataFile"]
    checksum = data.get("checksum") or {}
    md5 = data.get("md5") or (checksum.get("value") if checksum.get("type") == "MD5" else None)
    name = f"{kind}/{entry['label']}" if kind else entry["label"]
    return RemoteFile(
        url=f"{server}/api/access/datafile/{int(data['id'])}",
        path=safe_path(name, url=url),
        size=int(data["filesize"]),
        md5=md5,
    )
